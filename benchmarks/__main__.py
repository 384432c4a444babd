"""`make bench`: the figures against named peers, in under 15 minutes on two cores; `--all` adds the longer tables."""

import sys
from pathlib import Path

from benchmarks import (
    checkpointing,
    collecting,
    driving,
    figures,
    frozen_prefix,
    memory,
    proposals,
    reading,
    recovery,
    sharing,
    starting,
    submitting,
    training,
    warmup,
    workers,
)

QUICK = (training, collecting, memory, workers, starting, driving, reading)
LONG = (collecting, frozen_prefix, sharing, checkpointing, warmup, recovery, driving, proposals, reading, submitting)


def main(arguments: list[str]) -> int:
    """Measure; returns 1 if a target is missed."""
    found = [figure for module in QUICK for figure in module.figures()]
    figures.show(found, Path("benchmarks") / "figures.json")
    if "--all" in arguments:
        for module in LONG:
            module.main()
    return 0 if all(figure.is_met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A search or a study on a cluster, on given terms, as a process of its own; prints the messages and when they came.

Arguments: ``search`` or ``study``; its YAML; its folder; the cluster's address; its terms as JSON, and its workers.
"""

import json
import sys
import time
from pathlib import Path

from prunepeft_ray.cluster import Terms
from prunepeft_ray.config import load_spec
from prunepeft_ray.errors import PrunePEFTError
from prunepeft_ray.events import MESSAGES, Event
from prunepeft_ray.execution import start_search, start_study
from prunepeft_ray.execution.search import resizing
from prunepeft_ray.study import load_study

# a test does not wait for a minute
resizing.GROW_SECONDS = resizing.LIFE_SECONDS = resizing.SHRINK_SECONDS = 1.0


def tell(event: Event) -> None:
    if event.type in MESSAGES:
        print(f"{time.time():.2f} {event.text}", flush=True)


def main(kind: str, config: str, output: str, address: str, terms: str) -> int:
    wishes = json.loads(terms)
    workers = wishes.pop("workers", None)
    try:
        if kind == "study":
            start_study(load_study(Path(config)), Path(output), tell, lambda progress: None, address, Terms(**wishes))
        else:
            start_search(load_spec(Path(config), {}, ()), Path(output), tell, workers, address, Terms(**wishes))
    except PrunePEFTError as error:
        print(f"error: {error}", flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

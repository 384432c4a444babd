"""Standard streams that take whatever is printed, and JSON that every program reads."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from prunepeft_ray.paths import one_line


def prepare_streams() -> None:
    """Let outputs print what their encoding lacks as an escape, and the input be UTF-8 whatever the locale."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")


def print_json(data: Any, indent: int | None = 2) -> None:
    """Print JSON; numbers that are not finite, which JSON does not have, become null.

    Args:
        data: What to print; what JSON does not know is printed as text.
        indent: Spaces per level; None for one line.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    whole = encoding.lower().startswith("utf")
    print(json.dumps(_finite(data), indent=indent, default=str, ensure_ascii=indent is not None or not whole))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def flush_output() -> None:
    """Write what is buffered, if there is an output at all."""
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_output() -> None:
    """Give the output up: what is still buffered would fail again at exit."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


@contextmanager
def run_is_over(folder: object) -> Iterator[None]:
    """Print what a run has found: it is there whatever becomes of the output, so a failing one is merely said.

    Args:
        folder: The run's folder.
    """
    try:
        yield
        flush_output()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        drop_output()
        with suppress(OSError, ValueError):
            print(
                f"the run is finished, but what it found cannot be printed ({one_line(error)}): "
                f"'prunepeft report {folder}' shows it",
                file=sys.stderr,
            )

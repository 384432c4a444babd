"""Standard streams that take whatever is printed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prunepeft_ray.cli.terminal import say
from prunepeft_ray.text import one_line


def prepare_streams() -> None:
    """Let outputs print what their encoding lacks as an escape, and the input be UTF-8 whatever the locale."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")


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
            say(
                f"the run is finished, but what it found cannot be printed ({one_line(error)}): "
                f"'prunepeft report {folder}' shows it"
            )

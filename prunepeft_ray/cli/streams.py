"""Standard streams that accept any text."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prunepeft_ray.cli.terminal import say
from prunepeft_ray.text import error_line


def prepare_streams() -> None:
    """Escape characters that the outputs cannot encode, and read the input as UTF-8 whatever the locale."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")


def flush_output() -> None:
    """Flush standard output, if there is one."""
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_output() -> None:
    """Replace standard output by the null device: what is still buffered would fail again at exit."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123


@contextmanager
def run_is_over(folder: object) -> Iterator[None]:
    """Print the results of a finished run; as they are stored, output that fails is only a warning.

    Args:
        folder: Folder of the run, for the message.
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
                f"the run has finished, but its results cannot be printed ({error_line(error)}): view them with "
                f"'prunepeft report {folder}'"
            )

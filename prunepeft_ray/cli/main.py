"""The ``prunepeft`` command."""

from __future__ import annotations

import os
import signal
import sys

import typer

from prunepeft_ray.cli import adapter as use
from prunepeft_ray.cli import cluster, compare, doctor, driver, lists, report, search, service, track
from prunepeft_ray.cli.streams import drop_output, flush_output, prepare_streams
from prunepeft_ray.cli.terminal import complain
from prunepeft_ray.ending import ENDING, exit_code, signal_message
from prunepeft_ray.errors import PrunePEFTError, Terminated
from prunepeft_ray.text import one_line

# typer does not export the base of its usage errors
UsageError: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="prunepeft",
    help="Find the best parameter-efficient fine-tuning architecture for a model, a task and a budget.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (search, compare, report, track, use, service, cluster, lists, doctor, driver):
    module.add_to(app)


def main() -> None:
    """Run the command line: exit code 0 done, 1 failed, 2 wrong input, 130 interrupted, 143 asked to end."""
    ENDING.install()
    ENDING.begin()
    prepare_streams()
    try:
        ENDING.finish(run(sys.argv[1:]))
    except (KeyboardInterrupt, Terminated):
        # just before the outcome was said
        ENDING.exit_for_signal(ENDING.asked or signal.SIGINT)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; errors of ours become one line on standard error.

    Args:
        arguments: The command line without the program's name.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        code = typer.main.get_command(app).main(arguments or ["--help"], prog_name="prunepeft", standalone_mode=False)
        # typer turns Ctrl-C into this exit code without a word
        if code == 130:
            raise KeyboardInterrupt
        flush_output()
        return code if isinstance(code, int) else 0
    except PrunePEFTError as error:
        return _complain(str(error), error.exit_code)
    except UsageError as error:
        message = error.format_message()  # type: ignore[attr-defined]
        return _complain(f"{' '.join(message.split())}; see prunepeft --help", 2)
    except (KeyboardInterrupt, typer.Abort):
        return _ended_by(signal.SIGINT)
    except Terminated:
        return _ended_by(signal.SIGTERM)
    except BrokenPipeError:
        # the reader of our output has gone, as with `| head`
        drop_output()
        return 0
    except OSError as error:
        # what a signal has broken is not worth a word
        if ENDING.asked is not None:
            return _ended_by(ENDING.asked)
        # errors of files have names
        if error.filename is not None:
            raise
        drop_output()
        return _complain(f"the output cannot be written: {one_line(error)}", 1)
    except Exception:
        if ENDING.asked is None:
            raise
        return _ended_by(ENDING.asked)


def _ended_by(number: int) -> int:
    return _complain(signal_message(number), exit_code(number))


def _complain(message: str, code: int) -> int:
    ENDING.decide(code)
    complain(message)
    return code

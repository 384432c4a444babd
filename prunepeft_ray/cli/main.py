"""The ``prunepeft`` command."""

from __future__ import annotations

import os
import signal
import sys

import typer

from prunepeft_ray.cli import adapter, cluster, compare, doctor, driver, lists, report, search, service, simulate, track
from prunepeft_ray.cli.streams import drop_output, flush_output, prepare_streams
from prunepeft_ray.cli.terminal import complain
from prunepeft_ray.ending import ENDING, exit_code, signal_message
from prunepeft_ray.errors import PrunePEFTError, Terminated
from prunepeft_ray.text import error_line

# typer does not export the base of its usage errors
UsageError: type[Exception] = typer.BadParameter.__bases__[0]

RENAMED = {"--text-column": "--text", "--text2-column": "--text2", "--label-column": "--label"}
"""Options of earlier versions, and what they are called now."""

app = typer.Typer(
    name="prunepeft",
    help="Search for the best parameter-efficient fine-tuning architecture for a model, a task and a budget.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (search, compare, simulate, report, track, adapter, service, cluster, lists, doctor, driver):
    module.add_to(app)


def main() -> None:
    """Run the command line; exit code 0: success, 1: failure, 2: bad input, 130: interrupted, 143: terminated."""
    try:
        ENDING.install()
        ENDING.begin()
        prepare_streams()
        ENDING.finish(run(sys.argv[1:]))
    except (KeyboardInterrupt, Terminated):
        # the signal came just before the outcome was printed
        ENDING.exit_for_signal(ENDING.asked or signal.SIGINT)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; our own errors become one line on standard error.

    Args:
        arguments: Command-line arguments, without the name of the program.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        code = typer.main.get_command(app).main(arguments or ["--help"], prog_name="prunepeft", standalone_mode=False)
        # typer silently turns Ctrl-C into this exit code
        if code == 130:
            raise KeyboardInterrupt
        flush_output()
        return code if isinstance(code, int) else 0
    except PrunePEFTError as error:
        return _complain(str(error), error.exit_code)
    except UsageError as error:
        return _complain(_usage_text(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _ended_by(signal.SIGINT)
    except Terminated:
        return _ended_by(signal.SIGTERM)
    except BrokenPipeError:
        # whoever reads our output has closed it, as `| head` does
        drop_output()
        return 0
    except OSError as error:
        # errors that follow from a signal are not reported
        if ENDING.asked is not None:
            return _ended_by(ENDING.asked)
        # errors of files carry a file name; those of the output do not
        if error.filename is not None:
            raise
        drop_output()
        return _complain(f"the output cannot be written: {error_line(error)}", 1)
    except Exception:
        if ENDING.asked is None:
            raise
        return _ended_by(ENDING.asked)


def _usage_text(error: Exception) -> str:
    option = getattr(error, "option_name", None)
    if option in RENAMED:
        return f"{option} is now called {RENAMED[option]}"
    message = error.format_message()  # type: ignore[attr-defined]
    return f"{' '.join(message.split())}; see prunepeft --help"


def _ended_by(number: int) -> int:
    return _complain(signal_message(number), exit_code(number))


def _complain(message: str, code: int) -> int:
    ENDING.decide(code)
    complain(message)
    return code

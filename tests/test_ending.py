"""How a command's process ends, in processes that import nothing else and so end in a moment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import prunepeft_ray

INTERRUPTED = "error: interrupted; finished jobs and checkpoints are safe; resume with 'prunepeft resume DIR'\n"
SETUP = """\
import os, signal, sys, time
from prunepeft_ray.ending import ENDING
ENDING.install()
def hit(number=signal.SIGINT):
    os.kill(os.getpid(), number)
"""


def end(code, tmp_path):
    """Run code in a process that hears signals; returns its exit code and what it said on standard error."""
    root = str(Path(prunepeft_ray.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-c", SETUP + code], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr, done.stdout


def test_a_signal_before_the_command_begins_ends_it_on_the_spot(tmp_path):
    assert end("hit(); print('still here')", tmp_path) == (130, INTERRUPTED, "")
    code, said, _ = end("hit(signal.SIGTERM)", tmp_path)
    assert (code, said.partition(";")[0]) == (143, "error: terminated")


def test_what_is_open_is_closed_at_the_first_signal_and_not_at_the_second(tmp_path):
    code = "ENDING.begin()\ntry:\n    hit()\nfinally:\n    print('closed', flush=True)\n    "
    assert end(f"{code}ENDING.exit_for_signal(ENDING.asked)", tmp_path) == (130, INTERRUPTED, "closed\n")
    assert end(f"{code}hit()\n    print('twice')", tmp_path) == (130, INTERRUPTED, "closed\n")


def test_an_exception_waits_until_an_import_is_over(tmp_path):
    (tmp_path / "slow.py").write_text("import __main__\n__main__.hit()\nprint('imported', flush=True)\n")
    code = "ENDING.begin()\ntry:\n    import slow\n    time.sleep(30)\nexcept KeyboardInterrupt:\n    print('raised')\n"
    assert end(f"{code}ENDING.finish(130)", tmp_path) == (130, "", "imported\nraised\n")


def test_an_exception_that_is_swallowed_is_raised_again(tmp_path):
    code = (
        "class Odd:\n    def __del__(self):\n        hit()\n        time.sleep(0)\n"
        "ENDING.begin()\ntry:\n    Odd()\n    time.sleep(30)\nexcept KeyboardInterrupt:\n    ENDING.finish(130)\n"
    )
    assert end(code, tmp_path) == (130, "", "")


@pytest.mark.parametrize(("code", "expected"), [(0, (130, INTERRUPTED)), (2, (2, ""))])
def test_a_signal_while_the_interpreter_ends(tmp_path, code, expected):
    assert end(f"import atexit; atexit.register(hit); ENDING.finish({code})", tmp_path)[:2] == expected


def test_a_signal_while_the_last_line_is_said_is_too_late(tmp_path):
    assert end("ENDING.decide(1); hit(); print('error: full', file=sys.stderr); ENDING.finish(1)", tmp_path)[:2] == (
        1,
        "error: full\n",
    )


def test_output_is_flushed_and_nothing_runs_after_the_last_exit_handler(tmp_path):
    code = "import atexit; atexit.register(print, 'handler'); print('out'); ENDING.finish(0)"
    assert end(code, tmp_path) == (0, "", "out\nhandler\n")
    code, said, _ = end("raise ValueError('a bug')", tmp_path)
    assert (code, said.splitlines()[-1]) == (1, "ValueError: a bug")


def test_native_code_is_silent_once_a_signal_is_noted(tmp_path):
    code = "ENDING.note(signal.SIGINT); os.write(2, b'native'); print('ours', file=sys.stderr); ENDING.finish(130)"
    assert end(code, tmp_path)[:2] == (130, "ours\n")
    assert end("ENDING.note(signal.SIGINT); hit()", tmp_path)[:2] == (130, INTERRUPTED)

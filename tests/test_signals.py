"""Signals at random moments of whole commands: always one line of ours and the right code, and nothing left running."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from chaos import environment, kill_all, processes
from execution_toys import make_spec
from study_toys import write_study

from prunepeft_ray.config import dump_yaml
from prunepeft_ray.waiting import poll

LINES = {
    signal.SIGINT: "error: interrupted; finished jobs and checkpoints are safe; resume with 'prunepeft resume DIR'",
    signal.SIGTERM: "error: terminated; finished jobs and checkpoints are safe; resume with 'prunepeft resume DIR'",
}


def hears(pid):
    """Whether our handlers are in place: nobody else has one for SIGALRM. Until then Python itself starts."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGALRM - 1) & 1)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    said: str
    left: dict[int, str]


def run_until(arguments, seconds, number, whom="driver"):
    """Run a command, and send a signal to ``driver``, ``group`` or ``all``; None if it was over before.

    The seconds count from the first moment at which it hears signals.
    """
    env = environment()
    mark = env["PRUNEPEFT_TEST"]
    command = subprocess.Popen(
        [sys.executable, "-m", "prunepeft_ray", *map(str, arguments)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while not hears(command.pid):
            time.sleep(0.001)
        time.sleep(seconds)
        if command.poll() is not None:
            return None
        if whom == "group":
            os.killpg(command.pid, number)
        else:
            command.send_signal(number)
        for pid in processes(mark) if whom == "all" else ():
            if pid != command.pid:
                os.kill(pid, number)
        _, said = command.communicate(timeout=120)
        if command.returncode == 0 and not said:
            # its outcome was decided, and a signal is ignored from then on
            return None
        poll(lambda: not processes(mark), 15, 0.2)
        return Ended(command.returncode, said, processes(mark))
    finally:
        kill_all(mark)
        command.wait(10)


def is_right(ended, number):
    """Whether a command that a signal has ended did all that it should."""
    return (ended.code, ended.said, ended.left) == (128 + number, LINES[number] + "\n", {})


def seconds_of(arguments):
    """How long a command takes that nobody disturbs."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "prunepeft_ray", *map(str, arguments)], env=environment(), check=True)
    return time.monotonic() - began


@pytest.mark.system
@pytest.mark.parametrize("seed", range(2))
def test_a_quick_command_says_one_line_at_any_moment(seed):
    rng, longest, heard = random.Random(seed), seconds_of(["methods"]), 0
    for number in LINES:
        for _ in range(3):
            if (ended := run_until(["methods"], rng.uniform(0, longest), number)) is not None:
                assert is_right(ended, number), ended
                heard += 1
    assert heard


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", ["search", "compare", "search in process", "compare in process"])
def test_signals_at_fifty_random_moments(tmp_path, tiny_bert, small_task, kind, record_property):
    (tmp_path / "search.yaml").write_text(dump_yaml(make_spec(tiny_bert, small_task)))
    write_study(tmp_path / "study.yaml", tiny_bert, small_task, methods=["random-search"], limits={"evaluations": 4})
    what = (
        ["compare", tmp_path / "study.yaml"] if "compare" in kind else ["search", "--config", tmp_path / "search.yaml"]
    )
    begin = [*what[kind.split()[0]], "--workers", "1" if "in process" in kind else "2"]
    rng = random.Random(kind)
    longest = seconds_of([*begin, "--output", tmp_path / "whole"])
    wrong, heard, resumed = [], 0, 0
    for attempt in range(50):
        number, whom = list(LINES)[attempt % 2], ("driver", "group", "all")[attempt % 3]
        seconds = rng.uniform(0, longest)
        path = tmp_path / f"run{attempt}"
        ended = run_until([*begin, "--output", path], seconds, number, whom)
        heard += ended is not None
        if ended is not None and not is_right(ended, number):
            wrong.append((round(seconds, 3), number.name, whom, ended))
        if attempt % 10 == 0 and (path / "spec.yaml").exists():
            assert seconds_of(["resume", path])
            resumed += 1
    record_property("signals", json.dumps({"heard": heard, "wrong": len(wrong), "resumed": resumed}))
    assert not wrong, wrong
    assert heard >= 30


@pytest.mark.slow
def test_a_command_whose_ray_is_killed_says_so(tmp_path, tiny_bert, small_task):
    (tmp_path / "search.yaml").write_text(dump_yaml(make_spec(tiny_bert, small_task)))
    path, env = tmp_path / "run", environment()
    arguments = ["search", "--config", tmp_path / "search.yaml", "--workers", "2", "--output", path]
    search = subprocess.Popen(
        [sys.executable, "-m", "prunepeft_ray", *arguments],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        heart = []
        while not heart and search.poll() is None:
            heart = [pid for pid, command in processes(env["PRUNEPEFT_TEST"]).items() if "gcs_server\0" in command]
            time.sleep(0.1)
        while not (path / "spec.yaml").exists() and search.poll() is None:
            time.sleep(0.1)
        os.kill(heart[0], signal.SIGKILL)
        _, said = search.communicate(timeout=30)
        assert search.returncode == 1
        assert said == (
            "error: Ray's gcs_server has exited; finished jobs and checkpoints are safe; "
            "resume with 'prunepeft resume DIR'\n"
        )
    finally:
        kill_all(env["PRUNEPEFT_TEST"])
        search.wait(10)
    assert seconds_of(["resume", path])

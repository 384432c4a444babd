"""Processes with a mark are found and ended with all that descends from them, and no others."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from prunepeft_ray.processes import MARK, Process, end_family, family, is_alive, send
from prunepeft_ray.waiting import wait_until

SLEEP = "import time; time.sleep(300)"
# the child sheds its environment, and so the mark
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{SLEEP}'], env={{}}); {SLEEP}"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"


@pytest.fixture
def start():
    started = []

    def run(mark, program=SLEEP):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", program],
                env=os.environ | {MARK: mark},
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        )
        return started[-1]

    yield run
    for child in started:
        child.kill()
        child.communicate()


def pids(mark):
    return {process.pid for process in family(mark)}


def test_a_birth_is_that_of_the_kernel_since_the_boot_whatever_the_clock_says(monkeypatch):
    stat = Path(f"/proc/{os.getpid()}/stat")
    if not stat.exists():
        pytest.skip("needs /proc")
    process = Process.this()
    # earlier versions wrote the ticks of the kernel, and leases of theirs must be judged
    assert process.birth == stat.read_text().rpartition(")")[2].split()[19]
    told = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: told + 3600)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: told + 3600)
    assert Process.this() == process


def test_a_zombie_is_dead_and_has_no_birth(start):
    child = start("cluster-z")
    process = Process.of(child.pid)
    child.send_signal(signal.SIGKILL)
    eventually(lambda: is_alive(process), False)
    # nobody has waited for it yet
    assert psutil.pid_exists(child.pid)
    assert Process.of(child.pid).birth == ""


def test_descendants_of_a_killed_family_are_killed_and_this_process_is_not(start):
    killer = "import sys; from prunepeft_ray.processes import kill_descendants; sys.stdin.read(1); kill_descendants()"
    program = f"import subprocess; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {killer}"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import sys; {program}"], env=os.environ | {MARK: "cluster-k"}, stdin=subprocess.PIPE
    )
    eventually(lambda: len(pids("cluster-k")), 2)
    parent.communicate(b"x", timeout=30)
    assert parent.returncode == 0
    eventually(lambda: pids("cluster-k"), set())


def eventually(found, wanted):
    wait_until(lambda: found() == wanted, 30, lambda: f"{found()} instead of {wanted}")


def test_a_family_is_what_bears_the_mark_or_one_below_it(start):
    children = {mark: start(mark).pid for mark in ("cluster-a", "cluster-a.0", "cluster-a.1", "cluster-ab", "b")}
    eventually(lambda: pids("cluster-a"), {children[mark] for mark in ("cluster-a", "cluster-a.0", "cluster-a.1")})
    assert pids("cluster-a.1") == {children["cluster-a.1"]}


def test_children_without_the_mark_end_with_their_parents(start):
    parent = start("cluster-c", PARENT)
    eventually(lambda: len(pids("cluster-c")), 2)
    everyone = family("cluster-c")
    assert end_family("cluster-c", heads=(), grace=0) == 2
    assert not any(map(is_alive, everyone))
    assert parent.wait() in (0, -signal.SIGKILL)


def test_who_does_not_end_when_asked_is_killed(start):
    deaf = start("cluster-d", DEAF)
    deaf.stdout.readline()
    end_family("cluster-d", heads=[Process.of(deaf.pid)], grace=0.5)
    assert pids("cluster-d") == set()


def test_a_stranger_that_was_given_a_dead_ones_id_is_left_alone(start):
    stranger = start("cluster-e")
    process = Process.of(stranger.pid)
    send(replace(process, birth="1"), signal.SIGKILL)
    end_family("cluster-f", heads=[process], grace=0.1)
    assert is_alive(process)
    assert stranger.poll() is None

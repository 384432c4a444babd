"""Real processes that work on one run, are killed, stopped and raced."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_fakes import SPEC

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.processes import Process
from prunepeft_ray.results import RunFolder, attempt
from prunepeft_ray.results import writer_lease as attempts
from prunepeft_ray.results.writer_lease import Record, attempt_file
from prunepeft_ray.storage.paths import is_folder, is_local, names, open_path
from prunepeft_ray.waiting import wait_until


@pytest.fixture
def local_run(tmp_path):
    return RunFolder.create(tmp_path / "run", SPEC)


@pytest.fixture(params=["disk", "bucket"])
def run(request):
    if request.param == "disk":
        return request.getfixturevalue("local_run")
    return RunFolder.create(open_path(request.getfixturevalue("bucket")) / "run", SPEC)


@pytest.fixture
def quick(monkeypatch):
    """Beats and patience of a moment."""
    monkeypatch.setattr(attempts, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(attempts, "PATIENCE_SECONDS", 0.6)
    monkeypatch.setattr(attempts, "POLL_SECONDS", 0.05)


def record(folder, number):
    return Record.read(attempt_file(folder, number))


def leave(folder, number, **changes):
    """Write the file of an attempt whose owner left no outcome."""
    owner = replace(Process.this(), **changes)
    file = attempt_file(folder, number)
    if not isinstance(file, Path) or not file.parent.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(Record(number, "token", owner, "2026-01-02T03:04:05+00:00").to_bytes())


def dead_process():
    """Id of a process that has ended, and is not there any more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def assert_refused(folder, *words, tell=lambda line: None):
    before = names(folder.attempts)
    with pytest.raises(InputError) as caught, attempt(folder, tell):
        raise AssertionError("two owners")
    for word in ("has been working on", f"prunepeft resume {folder.path}", *words):
        assert str(word) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(folder.attempts) == before


# --- one process after the other


def test_an_attempt_says_who_works_since_when_and_what_came_of_it(run):
    with attempt(run) as own:
        assert own.number == 1
        own.check()
        during = json.loads(attempt_file(run, 1).read_bytes())
        assert (during["attempt"], during["ended_at"], during["outcome"]) == (1, None, None)
        assert during["owner"] == asdict(Process.this())
        assert (during["owner"]["host"], during["owner"]["pid"]) == (socket.gethostname(), os.getpid())
    after = record(run, 1)
    assert after.outcome == "finished"
    assert after.started_at <= after.ended_at
    assert names(run.attempts) == ["000001.json"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(1), "interrupted"),
        (RunError("the disk\nis full"), "failed: the disk is full"),
        (ValueError(), "failed: ValueError"),
    ],
)
def test_what_ended_an_attempt_is_written_down_and_raised(local_run, error, outcome):
    with pytest.raises(type(error)) as caught, attempt(local_run):
        raise error
    assert caught.value is error
    assert record(local_run, 1).outcome == outcome


@settings(max_examples=20)
@given(ends=st.lists(st.sampled_from(["finished", "interrupted", "failed", "killed", "other boot"]), max_size=6))
def test_whatever_happened_before_the_next_attempt_has_the_next_number(tmp_path_factory, ends):
    folder, gone = RunFolder.create(tmp_path_factory.mktemp("run"), SPEC), dead_process()
    for number, end in enumerate(ends, 1):
        before = [attempt_file(folder, earlier).read_bytes() for earlier in range(1, number)]
        if end == "killed":
            leave(folder, number, pid=gone)
        elif end == "other boot":
            leave(folder, number, boot="before")
        else:
            raised = {"interrupted": KeyboardInterrupt, "failed": OSError}.get(end)
            try:
                with attempt(folder) as own:
                    assert own.number == number
                    if raised:
                        raise raised
            except (KeyboardInterrupt, OSError):
                pass
        assert [attempt_file(folder, earlier).read_bytes() for earlier in range(1, number)] == before
    with attempt(folder) as own:
        assert own.number == len(ends) + 1


def test_the_owner_shows_that_it_lives(quick, run):
    with attempt(run):
        first = record(run, 1)
        wait_until(lambda: record(run, 1).beat >= first.beat + 3, 10, "no three beats")
        assert replace(record(run, 1), beat=0) == replace(first, beat=0)
    before = attempt_file(run, 1).read_bytes()
    time.sleep(0.2)
    assert attempt_file(run, 1).read_bytes() == before


def test_a_second_attempt_in_the_same_process_is_refused(local_run):
    with attempt(local_run):
        assert_refused(local_run, os.getpid())


# --- processes of this machine

HOLDER = """
import os, sys, time
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.results import RunFolder, attempt
with attempt(RunFolder.open(open_path(sys.argv[1]))) as own:
    print(own.number, flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder):
    """A process that works on the run until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def test_a_run_belongs_to_a_process_until_it_is_killed(run):
    with holder(run) as (process, number):
        assert number == 1
        host, since = socket.gethostname(), record(run, 1).started_at
        assert_refused(run, process.pid, host, since)

        # a stopped process may go on at any time
        os.kill(process.pid, signal.SIGSTOP)
        assert_refused(run, process.pid)
        os.kill(process.pid, signal.SIGCONT)
        assert_refused(run, process.pid)

        os.kill(process.pid, signal.SIGKILL)
        # dead, but its parent has not noticed
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        started = time.monotonic()
        with attempt(run) as own:
            assert own.number == 2
        assert time.monotonic() - started < 3
    assert record(run, 1).outcome is None


def test_a_run_is_free_when_its_process_has_ended(local_run):
    with holder(local_run) as (process, _):
        process.communicate("")
        assert record(local_run, 1).outcome == "finished"
        with attempt(local_run) as own:
            assert own.number == 2


RACERS = """
import os, sys
import s3fs, upath
from prunepeft_ray.errors import InputError
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.results import RunFolder, attempt
go, start = os.pipe()
done, end = os.pipe()
racers = int(sys.argv[2])
for _ in range(racers):
    if os.fork() == 0:
        os.close(start)
        os.close(end)
        folder = RunFolder.open(open_path(sys.argv[1]))
        os.read(go, 1)
        try:
            with attempt(folder) as own:
                os.write(1, f"won {own.number}\\n".encode())
                os.read(done, 1)
        except InputError:
            os.write(1, b"refused\\n")
        os._exit(0)
os.close(go)
os.close(done)
sys.stdin.readline()
os.close(start)
sys.stdin.readline()
os.close(end)
for _ in range(racers):
    os.wait()
"""


@pytest.mark.system
def test_of_many_processes_at_once_exactly_one_gets_the_run(run):
    racers, rounds = (8, 4) if is_local(run.path) else (4, 2)
    for number in range(1, rounds + 1):
        race = [sys.executable, "-c", RACERS, str(run.path), str(racers)]
        process = subprocess.Popen(race, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdin.write("go\n")
        process.stdin.flush()
        told = sorted(process.stdout.readline().strip() for _ in range(racers))
        assert told == ["refused"] * (racers - 1) + [f"won {number}"]
        process.communicate("\n")
    assert len(names(run.attempts)) == rounds


def test_an_id_that_another_process_has_now_is_not_the_owner(local_run):
    leave(local_run, 1, birth="1")
    with attempt(local_run) as own:
        assert own.number == 2


def test_a_process_that_is_hidden_from_us_is_watched_by_its_beat(quick, local_run, monkeypatch):
    leave(local_run, 1, pid=dead_process())
    monkeypatch.setattr("prunepeft_ray.processes._is_there", lambda pid: True)
    told = []
    with attempt(local_run, told.append) as own:
        assert own.number == 2
    assert "waiting up to" in told[0]


# --- processes that cannot be seen from here

ELSEWHERE = {
    "other machine": {"host": "elsewhere"},
    "other container": {"namespace": "pid:[1]"},
    "birth unknown": {"birth": ""},
    "birth of another version": {"birth": "1732900000.25"},
}


@contextmanager
def beating(folder, number):
    """An owner elsewhere that lives."""
    stop = threading.Event()

    def beat():
        while not stop.wait(0.1):
            now = record(folder, number)
            attempts.write_whole(attempt_file(folder, number), replace(now, beat=now.beat + 1).to_bytes(), replace=True)

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.parametrize("where", ELSEWHERE)
def test_an_owner_elsewhere_is_dead_once_it_was_silent_for_long(quick, local_run, where):
    leave(local_run, 1, **ELSEWHERE[where])
    told, started = [], time.monotonic()
    with attempt(local_run, told.append) as own:
        assert own.number == 2
    assert time.monotonic() - started >= attempts.PATIENCE_SECONDS
    assert len(told) == 1
    assert f"process {os.getpid()} on {ELSEWHERE[where].get('host', socket.gethostname())}" in told[0]


@pytest.mark.parametrize("where", ELSEWHERE)
def test_an_owner_elsewhere_that_beats_is_not_disturbed(quick, run, where):
    leave(run, 1, **ELSEWHERE[where])
    with beating(run, 1):
        assert_refused(run, "2026-01-02T03:04:05+00:00")


def test_an_owner_elsewhere_that_ends_meanwhile_is_followed_at_once(quick, local_run, monkeypatch):
    monkeypatch.setattr(attempts, "PATIENCE_SECONDS", 60)
    leave(local_run, 1, host="elsewhere")

    def end(_line):
        done = replace(record(local_run, 1), outcome="interrupted")
        attempts.write_whole(attempt_file(local_run, 1), done.to_bytes(), replace=True)

    with attempt(local_run, end) as own:
        assert own.number == 2


# --- an owner that has been taken over


def test_an_owner_that_was_taken_over_learns_of_it(quick, run):
    calls = []
    with (
        pytest.raises(RunError, match=rf"another one has taken over the run.*prunepeft resume {run.path}") as caught,
        attempt(run, on_lost=lambda: calls.append(1)) as own,
    ):
        leave(run, 2, host="elsewhere")
        wait_until(lambda: calls, 10, "the owner does not learn of it")
        assert own.lost
        raise KeyboardInterrupt
    assert calls == [1]
    assert "\n" not in str(caught.value)
    assert record(run, 1).outcome is None
    assert record(run, 2).beat == 0


@pytest.mark.parametrize("how", ["other token", "deleted"])
def test_an_attempt_whose_file_is_another_one_is_lost(quick, local_run, how):
    with pytest.raises(RunError, match="taken over the run"), attempt(local_run) as own:
        if how == "deleted":
            attempt_file(local_run, 1).unlink()
        else:
            leave(local_run, 1)
        wait_until(lambda: own.lost, 10, "the owner does not learn of it")


def test_a_stopped_owner_that_was_taken_over_does_not_write_any_more(local_run):
    # what its thread does when it goes on
    with pytest.raises(RunError), attempt(local_run) as own:
        leave(local_run, 2, host="elsewhere")
        before = attempt_file(local_run, 1).read_bytes()
        own._beat()
        own.check()
    assert attempt_file(local_run, 1).read_bytes() == before


# --- poor folders


def test_a_folder_that_cannot_be_written_is_told_in_one_line(local_run, monkeypatch):
    def read_only(*_args, **_kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "link", read_only)
    with pytest.raises(RunError, match=r"000001\.json cannot be written \(Read-only") as caught, attempt(local_run):
        pass
    assert "\n" not in str(caught.value)


def test_a_disk_that_fills_up_later_disturbs_nobody(quick, local_run, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with attempt(local_run) as own:
        monkeypatch.setattr(os, "fsync", full)
        time.sleep(0.3)
        assert not own.lost
        own.check()
    assert record(local_run, 1).outcome is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"attempt": 1}', b'{"owner": {}}', b"\xff"])
def test_a_damaged_attempt_is_named(local_run, content):
    leave(local_run, 1)
    attempt_file(local_run, 1).write_bytes(content)
    with pytest.raises(InputError, match=r"000001\.json is damaged") as caught, attempt(local_run):
        pass
    assert "\n" not in str(caught.value)


def test_other_files_among_the_attempts_do_not_count(local_run):
    local_run.attempts.mkdir()
    for name in (".000007.json.0123.tmp", "notes.txt", "000009.json.bak"):
        (local_run.attempts / name).write_text("")
    with attempt(local_run) as own:
        assert own.number == 1
    assert is_folder(local_run.attempts)


def test_a_new_owner_removes_what_killed_writers_left_long_ago(tmp_path):
    folder = RunFolder(tmp_path)
    for name in ("results/jobs", "results/merged/jobs", "checkpoints", "attempts"):
        (tmp_path / name).mkdir(parents=True)
        for age, digits in ((60, "a"), (0, "b")):
            file = tmp_path / name / f".x.parquet.{digits * 32}.tmp"
            file.touch()
            os.utime(file, (time.time() - age,) * 2)
    (tmp_path / ".mine.tmp").touch()
    with attempt(folder):
        left = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.tmp"))
    young = f".x.parquet.{'b' * 32}.tmp"
    assert left == [
        ".mine.tmp",
        *(f"{name}/{young}" for name in ("attempts", "checkpoints", "results/jobs", "results/merged/jobs")),
    ]

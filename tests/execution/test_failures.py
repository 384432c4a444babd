"""Real processes, really killed: every search ends with the answer of one that nobody disturbed."""

import contextlib
import os
import re
import shutil
import signal
import subprocess

import pytest
from chaos import every_file_is_readable, finished_twice, jobs_before, longer_spec, redone, restarts, searching
from execution_toys import answer, assert_same_answer, job_ids, search_here

from prunepeft_ray.errors import RunError
from prunepeft_ray.execution.interruptions import StoppedError
from prunepeft_ray.results import RunFolder
from prunepeft_ray.training.checkpoint import pack, unpack


@pytest.fixture(scope="module")
def longer(tiny_bert, small_task):
    return longer_spec(tiny_bert, small_task)


@pytest.fixture(scope="module")
def expected(undisturbed_longer):
    return answer(undisturbed_longer)


def test_a_search_that_loses_a_worker_goes_on_by_itself(tmp_path, longer, expected, before):
    path = tmp_path / "run"
    with searching(path, longer, "--workers", "2") as search:
        search.wait_for_jobs(before["round"])
        os.kill(search.workers()[0], signal.SIGKILL)
        assert search.process.wait(120) == 0, search.told
        loss = r"worker [01] (died|lost the connection to another worker); restart 1 of at most 3"
        assert re.search(loss, search.told), search.told
        assert "resuming after" in search.told
        # nothing of Ray's own words
        assert "raylet" not in search.told
        assert finished_twice(search.told) == []
    assert restarts(path) >= 1
    assert_same_answer(answer(path), expected)
    assert [file.suffix for file in (path / "checkpoints").iterdir()] == [".safetensors"]


def test_a_search_that_is_stopped_twice_ends_with_the_same_answer(tmp_path, longer, expected, before):
    path = tmp_path / "run"
    with searching(path, longer, "--workers", "2") as search:
        search.wait_for_jobs(before["warmup"])
        assert search.end(signal.SIGINT) == 130, search.told
        assert "stopping: saving checkpoints" in search.told
        assert search.told.splitlines()[-1].startswith("error: interrupted; finished jobs and checkpoints are safe")
        assert "Traceback" not in search.told
    assert every_file_is_readable(path)
    with searching(path, None, "--workers", "1") as search:
        search.wait_for_jobs(before["final"])
        assert search.end(signal.SIGTERM) == 143, search.told
        assert "final retraining: stopped; checkpoint saved" in search.told
        assert search.told.splitlines()[-1].startswith("error: terminated; finished jobs and checkpoints are safe")
    assert every_file_is_readable(path)
    with searching(path, None) as one, searching(path, None, log="other log") as other:
        winner, loser = sorted((one, other), key=lambda search: search.process.wait(120))
        assert (winner.process.returncode, loser.process.returncode) == (0, 2)
        assert "final retraining: resuming after" in winner.told
        assert loser.told.splitlines()[-1].startswith(f"error: {path} is being written by process {winner.process.pid}")
        assert finished_twice(one.told + other.told) == []
    # one of the warm-up too, unless the signal came just between two jobs
    assert restarts(path) >= 1
    assert_same_answer(answer(path), expected)


# --- what happens to files, in this process


class WantsStop:
    """Wants a search to stop some steps into the job after a number of finished ones."""

    def __init__(self, path, jobs):
        self.path, self.jobs, self.asked = path, jobs, 0

    def __call__(self):
        self.asked += len(job_ids(self.path)) >= self.jobs
        return self.asked > 3


@pytest.fixture
def stopped(tmp_path, spec, undisturbed):
    """A run that was stopped in its first round, with a checkpoint; and that file."""
    path = tmp_path / "run"
    with pytest.raises(StoppedError):
        search_here(spec, path, stop_wanted=WantsStop(path, jobs_before(undisturbed[0])["round"]))
    (file,) = (path / "checkpoints").glob("*.ckpt")
    return path, file


def test_a_stopped_job_goes_on_where_it_was(stopped, spec, undisturbed):
    path, _ = stopped
    told = []
    search_here(spec, path, told.append, again=True)
    assert restarts(path) == 1
    assert [event.text for event in told if "resuming after" in event.text]
    # the stop has kept all that was done
    assert redone(path) == 0
    assert_same_answer(answer(path), answer(undisturbed[0]))


def test_a_whole_checkpoint_with_other_keys_is_told_and_its_job_starts_anew(stopped, spec, undisturbed):
    path, file = stopped
    state = unpack(file.read_bytes())
    done = state["progress"].pop("examples")
    file.write_bytes(pack(state))
    told = []
    search_here(spec, path, told.append, again=True)
    (text,) = [event.text for event in told if "cannot be used" in event.text]
    assert "it is not a state of this job: " in text
    assert text.endswith("; the job starts from the beginning")
    assert_same_answer(answer(path), answer(undisturbed[0]))
    # all that was done before the stop, and nothing else
    assert redone(path) == done


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_truncated_checkpoint_is_told_and_its_job_starts_anew(stopped, spec, undisturbed, size):
    path, file = stopped
    file.write_bytes(file.read_bytes()[:size])
    told = []
    search_here(spec, path, told.append, again=True)
    assert [
        event.text for event in told if f"{file} cannot be used" in event.text and "from the beginning" in event.text
    ]
    assert restarts(path) == 0
    assert_same_answer(answer(path), answer(undisturbed[0]))


def test_a_checkpoint_folder_deleted_by_hand_costs_the_running_job_alone(stopped, spec, undisturbed):
    path, file = stopped
    shutil.rmtree(file.parent)
    there = job_ids(path)
    told = []
    search_here(spec, path, told.append, again=True)
    assert not {event.job_id for event in told if event.type == "start"} & there
    assert restarts(path) == 0
    assert_same_answer(answer(path), answer(undisturbed[0]))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"only root can mount a small disk: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk):
    """Leave no room on a disk; returns the file to delete."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(1024))
    return file


def test_a_disk_that_is_full_from_some_job_on_loses_nothing(small_disk, spec, undisturbed):
    path, told, filler = small_disk / "run", [], []

    def tell(event):
        told.append(event)
        if event.type == "start" and event.kind == "final" and not filler:
            filler.append(fill(small_disk))

    with pytest.raises(
        RunError, match=r"safetensors cannot be written \(No space left.*jobs are safe.*resume"
    ) as caught:
        search_here(spec, path, tell)
    assert "\n" not in str(caught.value)
    # the job goes on without a checkpoint, to its end
    assert [event.text for event in told if ".ckpt cannot be written" in event.text and "continues" in event.text]
    assert every_file_is_readable(path)
    assert len(job_ids(path)) == jobs_before(undisturbed[0])["final"]
    assert not list(path.rglob("*.tmp"))

    filler[0].unlink()
    folder = search_here(spec, path, again=True)
    assert isinstance(folder, RunFolder)
    assert_same_answer(answer(path), answer(undisturbed[0]))

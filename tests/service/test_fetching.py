"""What is brought home is the run without what only the cluster can use."""

import signal
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from service_fakes import a_job

from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.service import fetch as fetching
from prunepeft_ray.service.fetch import fetch, is_here, pack
from prunepeft_ray.service.run_owner import RunOwner
from prunepeft_ray.storage import copy_files
from prunepeft_ray.storage.paths import open_path

FILES = ("spec.yaml", "results/jobs/a.parquet", "adapter/adapter_model.safetensors", "architecture.json")
LEFT = ("checkpoints/a.ckpt", "attempts/000001.json", "results/jobs/.b.parquet.1.tmp")


@pytest.fixture
def run(tmp_path):
    """A run's folder of the job demo-3f2a."""
    folder = tmp_path / "run"
    for name in (*FILES, *LEFT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    RunOwner("demo-3f2a", "demo", "ann", "search", "", "").take(folder)
    return folder


def job_at(folder, **changes):
    job = a_job(**changes)
    return replace(job, submission=replace(job.submission, output=str(folder)))


def brought(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class PackingServer:
    """A job server that packs here, into a folder of logs."""

    def __init__(self, logs, monkeypatch):
        self.logs, self.taken, self.stopped = logs, None, []
        logs.mkdir()
        # when it waits to be stopped, the archive is there
        monkeypatch.setattr(
            fetching,
            "time",
            SimpleNamespace(time=lambda: 0.0, time_ns=lambda: 1, sleep=self._take, monotonic=lambda: 0.0),
        )

    def _take(self, seconds):
        (archive,) = (self.logs / "prunepeft").iterdir()
        self.name, self.taken = f"prunepeft/{archive.name}", archive.read_bytes()

    def submit(self, helper, entrypoint, metadata, runtime_env):
        folder = entrypoint.split("pack ")[1].split(" ")[0]
        before = signal.getsignal(signal.SIGTERM)
        try:
            pack(folder, helper, self.logs)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert metadata == {}

    def job(self, helper):
        return SimpleNamespace(driver_node_id="n", status=SimpleNamespace(is_terminal=lambda: False))

    def log_end(self, details, lines):
        return "packed\n"

    def log_file(self, node, name):
        return self.taken if name == self.name else None

    def stop(self, helper):
        self.stopped.append(helper)


def test_a_folder_that_can_be_seen_is_copied(run, tmp_path):
    job, told = job_at(run), []
    assert is_here(job)
    fetch(None, job, tmp_path / "home", told.append)
    assert brought(tmp_path / "home") == sorted((*FILES, "submission.json"))
    assert told == [f"fetched: {tmp_path / 'home'}"]
    # again, with what has come since
    (run / "results/jobs/c.parquet").write_text("c")
    fetch(None, job, tmp_path / "home", told.append)
    assert "results/jobs/c.parquet" in brought(tmp_path / "home")


def test_the_same_from_a_bucket(run, tmp_path, bucket):
    there = open_path(f"{bucket}/run")
    copy_files(run, there, brought(run))
    fetch(None, job_at(f"{bucket}/run"), tmp_path / "home", lambda line: None)
    assert brought(tmp_path / "home") == sorted((*FILES, "submission.json"))


def test_a_folder_that_cannot_be_seen_comes_packed_through_the_cluster(run, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "is_here", lambda job: False)
    server = PackingServer(tmp_path / "logs", monkeypatch)
    fetch(server, job_at(run), tmp_path / "home", lambda line: None)
    assert brought(tmp_path / "home") == sorted((*FILES, "submission.json"))
    assert (tmp_path / "home" / FILES[1]).read_text() == FILES[1]
    assert server.stopped == ["demo-3f2a.fetch-1"]
    assert list((tmp_path / "logs" / "prunepeft").iterdir()) == []


def test_an_archive_that_reaches_outside_is_not_unpacked(run, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "is_here", lambda job: False)
    evil = tmp_path / "evil.tar.gz"
    with tarfile.open(evil, "w:gz") as tar:
        tar.add(run / "spec.yaml", "../outside")
    server = PackingServer(tmp_path / "logs", monkeypatch)
    monkeypatch.setattr(server, "log_file", lambda node, name: evil.read_bytes())
    with pytest.raises(RunError, match="does not stay within the folder"):
        fetch(server, job_at(run), tmp_path / "home", lambda line: None)
    assert not (tmp_path / "outside").exists()


def test_a_damaged_archive_and_a_bucket_as_target_are_told(run, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "is_here", lambda job: False)
    server = PackingServer(tmp_path / "logs", monkeypatch)
    monkeypatch.setattr(server, "log_file", lambda node, name: server.taken[: len(server.taken) // 2])
    with pytest.raises(RunError, match="arrived incomplete"):
        fetch(server, job_at(run), tmp_path / "home", lambda line: None)
    with pytest.raises(InputError, match="expected a folder on this machine"):
        fetch(server, job_at(run), open_path("memory://home"), lambda line: None)


def test_a_study_that_was_added_to_under_another_id_is_found(run):
    (run / "submission.json").unlink()
    RunOwner("demo-3f2a", "demo", "ann", "study", "", "").take(run)
    added = job_at(run, job="demo-9c01")
    assert not is_here(added)
    assert is_here(replace(added, submission=replace(added.submission, kind="study")))


def test_another_folder_of_the_same_name_is_not_taken_for_the_jobs(run):
    assert not is_here(job_at(run, job="trec-11b0"))
    assert not is_here(job_at("/nowhere/at/all"))


def test_what_is_in_the_way_stays(run, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine").write_text("x")
    with pytest.raises(InputError, match="contains something other than demo-3f2a"):
        fetch(None, job_at(run), home, lambda line: None)
    assert brought(home) == ["mine"]


def test_a_job_without_results_is_told(run, tmp_path):
    (run / "spec.yaml").unlink()
    with pytest.raises(InputError, match="has no results yet"):
        fetch(None, job_at(run), tmp_path / "home", lambda line: None)

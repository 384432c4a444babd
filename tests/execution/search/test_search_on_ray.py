"""Real Ray: one cluster for all tests, real worker processes, real kills."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest
from chaos import environment, kill_all
from execution_toys import BUDGET, SETTINGS, answer, assert_same_answer, job_ids, make_spec

from prunepeft_ray.cluster import session as local_ray
from prunepeft_ray.config import dump_yaml, load_spec
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.execution import resume_search, start_search
from prunepeft_ray.execution.search import start as launch
from prunepeft_ray.results import RunFolder, attempt
from prunepeft_ray.storage.paths import is_file, is_local, names, open_path
from prunepeft_ray.tasks import load_task
from prunepeft_ray.waiting import poll


def attempts_of(folder):
    """What came of each attempt at a run."""
    return [folder.read_json(f"attempts/{name}")["outcome"] for name in names(folder.attempts)]


def test_two_workers_give_the_answer_of_one_process(cluster, tmp_path, spec, undisturbed):
    events = []
    folder = start_search(spec, tmp_path / "run", events.append, workers=2)
    assert folder.finished
    assert_same_answer(answer(folder.path), answer(undisturbed[0]))

    started = [event.job_id for event in events if event.type == "start"]
    assert sorted(started) == sorted(job_ids(folder.path))
    assert sorted(event.job_id for event in events if event.type == "end") == sorted(started)
    assert {event.kind for event in events if event.type == "progress"} == {"warmup", "round", "final"}
    told = [event.text for event in events if event.type == "message"]
    assert "reading task" in told[0]
    assert told[1] == "starting 2 CPU workers"
    assert {text[:7] for text in told[2:] if text.startswith("round")} == {"round 1", "round 2"}
    assert told[-1].endswith("slots left")
    # nothing of Ray's own, and one attempt
    assert [file.suffix for file in folder.checkpoints.iterdir()] == [".safetensors"]
    assert attempts_of(folder) == ["finished"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    # a finished run is left as it is
    before = {file: file.stat().st_mtime_ns for file in folder.path.rglob("*")}
    events.clear()
    resume_search(folder.path, events.append, workers=2)
    assert [event.text for event in events] == [f"{folder.path} is finished; there is nothing to resume"]
    assert {file: file.stat().st_mtime_ns for file in folder.path.rglob("*")} == before


@pytest.mark.slow
def test_a_job_that_fails_on_a_worker_is_named(cluster, tmp_path, tiny_bert, small_task):
    rates = [f"training.learning_rates.{kind}=1e20" for kind in ("PA", "SA", "head")]
    spec = make_spec(tiny_bert, small_task, "warmup.epochs=3", *rates)
    with pytest.raises(RunError, match=r"warm-up turn 1/2.*failed: the training loss is") as caught:
        start_search(spec, tmp_path / "run", lambda event: None, workers=2)
    (job,) = job_ids(tmp_path / "run")
    assert job in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_workers_than_the_cluster_holds_are_refused_at_once(cluster, tmp_path, spec):
    with pytest.raises(InputError, match="64 workers need 64 CPUs, but the cluster has"):
        start_search(spec, tmp_path / "run", lambda event: None, workers=64)


@pytest.fixture
def marked():
    """An environment whose processes, and theirs, are ended after the test, each by its id."""
    found = environment()
    yield found
    kill_all(found["PRUNEPEFT_TEST"])


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    """Where a run goes, as the user writes it; processes started later must find the bucket."""
    return f"{request.getfixturevalue('bucket')}/run" if request.param == "bucket" else str(tmp_path / "run")


def stamps(path, ids):
    """What changes when a job's row is written again."""
    files = {id: path / "results" / "jobs" / f"{id}.parquet" for id in ids}
    if is_local(path):
        return {id: (file.stat().st_ino, file.stat().st_mtime_ns) for id, file in files.items()}
    return {id: file.fs.info(file.path)["LastModified"] for id, file in files.items()}


@pytest.mark.slow
def test_a_search_killed_midway_is_resumed_to_the_same_answer(cluster, tmp_path, place, spec, undisturbed, marked):
    path, config = open_path(place), tmp_path / "search.yaml"
    config.write_text(dump_yaml(spec))
    start = "from prunepeft_ray.cli.main import main; main()"
    command = [sys.executable, "-c", start, "search", "--config", str(config), "--output", place, "--workers", "2"]
    with (tmp_path / "log").open("wb") as log:
        driver = subprocess.Popen(command, env=marked, stdout=log, stderr=log, start_new_session=True)
        # it may be over before it is seen to be midway
        poll(lambda: len(job_ids(path)) >= 2 or driver.poll() is not None, 200, 0.02 if is_local(path) else 0.1)
        # its workers too: on a fast machine, orphans would finish all that is left
        kill_all(marked["PRUNEPEFT_TEST"])
        driver.wait()
    there = stamps(path, job_ids(path))
    assert len(there) >= 2, (tmp_path / "log").read_text()
    assert not is_file(path / "architecture.json")

    events = []
    folder = resume_search(path, events.append, workers=1)
    assert_same_answer(answer(path), answer(undisturbed[0]))
    started = [event.job_id for event in events if event.type == "start"]
    assert sorted(started) == sorted(job_ids(path) - set(there))
    assert stamps(path, there) == there
    assert attempts_of(folder) == [None, "finished"]


def run_python(code, environment, seconds):
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.ray
def test_an_address_where_no_cluster_is_is_said_to_be_so(tmp_path, spec, marked):
    config = tmp_path / "search.yaml"
    config.write_text(dump_yaml(spec))
    code = (
        "from prunepeft_ray.cli.main import run; import sys;"
        f"sys.exit(run(['search', '--config', {str(config)!r}, '--output', {str(tmp_path / 'run')!r},"
        "'--address', '127.0.0.1:1']))"
    )
    told = run_python(code, marked, 200)
    assert "error: the Ray cluster at '127.0.0.1:1' cannot be reached" in told
    assert "Traceback" not in told


@pytest.mark.ray
def test_a_cluster_of_our_own_holds_as_many_workers_as_asked(marked):
    # Ray reads its settings when it is imported, which a user may have done before
    code = (
        "import os, ray; from prunepeft_ray.cluster.session import ray_cluster\n"
        "from prunepeft_ray.cluster.capacity import check_room, worker_needs\n"
        "workers = (os.cpu_count() or 1) + 3\n"
        "with ray_cluster(None, workers):\n"
        "    check_room(worker_needs(workers, False))\n"
        "    address = ray.get_runtime_context().gcs_address\n"
        "print('room at', address, ray.is_initialized())"
    )
    # it listens on the loopback interface alone
    told = run_python(code, marked, 200)
    assert "room at 127.0.0.1:" in told
    assert told.strip().endswith("False")


WRONG = {
    "bad budget": ({"budget": "lots"}, (), "budget 'lots'"),
    "budget above the supernet": ({"budget": "10M"}, (), "nothing would be pruned"),
    "budget below a slot": ({"budget": "100"}, (), "smallest slot"),
    "unknown criterion": ({}, ("pruning.criteria=[wieght]",), "did you mean 'weight'"),
    "no such file": ({"task": {"name": "nowhere/task.csv"}}, (), "nowhere/task.csv"),
    "unknown task": ({"task": {"name": "packaged:moive"}}, (), "movie"),
    "no such model": ({"model": "./nowhere"}, (), "nowhere"),
    "too many sizes": ({}, ("space.rank=[4,4]",), "space.rank"),
    "half precision": ({}, ("training.precision=fp16",), "fp16 requires a GPU"),
}


@pytest.fixture
def no_ray(monkeypatch):
    def forbidden(*_args):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(launch, "ray_cluster", forbidden)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_refused_before_anything_is_made(no_ray, tmp_path, tiny_bert, small_task, name):
    changes, settings, message = WRONG[name]
    values = {"model": tiny_bert, "task": {"name": str(small_task)}, "budget": str(BUDGET)} | changes
    with pytest.raises(InputError, match=message) as caught:
        start_search(load_spec(None, values, (*SETTINGS, *settings)), tmp_path / "run", lambda event: None)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_left_alone(no_ray, tmp_path, spec, undisturbed):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        start_search(spec, tmp_path, lambda event: None)
    assert [file.name for file in tmp_path.iterdir()] == ["letter.txt"]
    with pytest.raises(InputError, match="prunepeft resume"):
        start_search(spec, undisturbed[0], lambda event: None)
    with pytest.raises(InputError, match="does not contain a run"):
        resume_search(tmp_path, lambda event: None)


def test_a_run_that_somebody_works_on_is_left_alone(no_ray, tmp_path, spec):
    folder = RunFolder.create(tmp_path / "run", spec)
    with attempt(folder), pytest.raises(InputError, match=rf"process {os.getpid()} on .* has been working on"):
        resume_search(folder.path, lambda event: None)
    assert attempts_of(folder) == ["finished"]


def test_a_search_that_another_process_has_taken_over_stops(no_ray, tmp_path, spec, monkeypatch):
    monkeypatch.setattr("prunepeft_ray.results.writer_lease.RENEW_SECONDS", 0.05)
    folder = RunFolder.create(tmp_path / "run", spec)

    def long_work(_folder, _data, _emit, _pool, worker_plan):
        (folder.attempts / "000002.json").write_text("{}")
        while worker_plan.request.signal is None:
            time.sleep(0.01)
        worker_plan.request.interrupt()

    monkeypatch.setattr(launch, "ray_cluster", lambda *_args: contextlib.nullcontext())
    monkeypatch.setattr(launch, "check_room", lambda *_args: None)
    monkeypatch.setattr(launch, "_run_in_workers", long_work)
    with pytest.raises(RunError, match="another one has taken over the run"):
        resume_search(folder.path, lambda event: None, workers=2)


def test_a_finished_run_is_not_attempted_again(no_ray, undisturbed):
    before = sorted(file.name for file in undisturbed[0].iterdir())
    resume_search(undisturbed[0], lambda event: None)
    assert sorted(file.name for file in undisturbed[0].iterdir()) == before


def test_a_run_whose_task_has_changed_is_not_resumed(no_ray, monkeypatch, tmp_path, spec, small_task, undisturbed):
    path, task = tmp_path / "run", tmp_path / "task.csv"
    RunFolder.create(path, spec)
    (path / "results").symlink_to(undisturbed[0] / "results")
    task.write_text(small_task.read_text() + "one more good sentence,yes\n")
    changed = spec.task.model_copy(update={"name": str(task)})
    monkeypatch.setattr(launch, "load_task", lambda _config, tell: load_task(changed, tell))
    with pytest.raises(InputError, match=r"the task .* has changed since this run began"):
        resume_search(path, lambda event: None)


@pytest.mark.parametrize("kind", [RuntimeError, Exception])
def test_a_cluster_that_does_not_start_at_once_is_tried_again(monkeypatch, kind):
    tries = []

    def start(**_options):
        tries.append(1)
        if len(tries) < local_ray.START_ATTEMPTS:
            raise kind("Failed to start GCS")

    monkeypatch.setattr("ray.init", start)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    local_ray._start({}, attempts=local_ray.START_ATTEMPTS)
    assert len(tries) == local_ray.START_ATTEMPTS
    tries.clear()
    with pytest.raises(RuntimeError, match="GCS"):
        local_ray._start({}, attempts=1)

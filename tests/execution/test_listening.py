"""What a run opens while its workers train together, and what it leaves behind: real runs, as a user starts them."""

import re
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from chaos import SearchProcess, environment, longer_spec, processes
from execution_toys import answer, assert_same_answer
from listening import beyond_loopback, listening
from study_toys import write_study

from prunepeft_ray.config import dump_yaml
from prunepeft_ray.execution import resume_search

LONG = {"epochs": 200, "patience": 200, "max_length": 32}

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def longer(tiny_bert, small_task):
    return longer_spec(tiny_bert, small_task)


def write_search(file, model, task):
    file.write_text(dump_yaml(longer_spec(model, task)))
    return ["search", "--config", str(file), "--workers", "2"]


def write_two_workers_study(file, model, task):
    execution = {"workers": 2, "cpus": 0.5, "checkpoint_seconds": 0.3}
    write_study(file, model, task, methods=["random-search"], execution=execution, training=LONG)
    return ["compare", str(file)]


RUNS = {
    "search": (write_search, "RayTrainWorker", "RayTrainWorker"),
    "study": (write_two_workers_study, "ResourceTrainable", "Worker"),
}
"""How each kind of run is written, and the names of the actors that train: that of the first, and of the others."""


@dataclass(frozen=True)
class Stopped:
    """What was seen of a run while two workers trained, and after a SIGTERM."""

    path: Path
    temporary: Path
    sockets: dict[int, list[str]]
    commands: dict[int, str]
    first: list[int]
    others: list[int]
    ray_folder: Path
    mode: int
    code: int
    told: str


@pytest.fixture(scope="module")
def stopped(request, tmp_path_factory, tiny_bert, small_task):
    """A run that was stopped while two workers trained."""
    write, first, other = RUNS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    path = folder / "run"
    # too long for Ray's sockets
    temporary = folder / ("t" * 120)
    temporary.mkdir()
    command = write(folder / "spec.yaml", tiny_bert, small_task)
    env = environment(TMPDIR=str(temporary))
    run = SearchProcess(path, [*command, "--output", str(path)], folder / "log", env)
    try:
        run.wait_until(run.has_checkpoint)
        commands = processes(run.mark)
        sockets, firsts, others = listening(commands), run.workers(first), run.workers(other)
        (ray_folder,) = {Path(at).parent for at in re.findall(r"--temp-dir=([^\0 ]+)", " ".join(commands.values()))}
        mode = stat.S_IMODE(ray_folder.stat().st_mode)
        code = run.end(signal.SIGTERM)
    finally:
        run.kill_all()
    return Stopped(path, temporary, sockets, commands, firsts, others, ray_folder, mode, code, run.told)


every_kind = pytest.mark.parametrize(
    "stopped", ["search", pytest.param("study", marks=pytest.mark.slow)], indirect=True
)


@every_kind
def test_a_run_keeps_to_this_machine(stopped):
    beyond = beyond_loopback(stopped.sockets)
    assert beyond == {}, {pid: stopped.commands[pid] for pid in beyond}
    # each has its socket for Ray and that of gloo, and the first of a group the store's
    assert 3 in [len(stopped.sockets[pid]) for pid in stopped.first]
    assert 2 in [len(stopped.sockets[pid]) for pid in stopped.others]
    # Ray lets everybody into the folder that it is given
    assert stopped.mode == 0o700


@every_kind
def test_a_run_that_is_stopped_says_so_and_leaves_nothing_behind(stopped):
    assert stopped.code == 143, stopped.told
    assert "Traceback" not in stopped.told
    assert stopped.told.splitlines()[-1].startswith("error: terminated; finished jobs and checkpoints are safe")
    assert not stopped.ray_folder.exists()
    assert list(stopped.temporary.iterdir()) == []


@pytest.mark.parametrize("stopped", ["search"], indirect=True)
def test_a_search_that_was_stopped_is_resumed_to_the_same_answer(cluster, stopped, undisturbed_longer):
    resume_search(stopped.path, lambda event: None, workers=1)
    assert_same_answer(answer(stopped.path), answer(undisturbed_longer))

"""What a run opens while its workers train together, and what it leaves behind: real runs, as a user starts them."""

import re
import signal
import stat
from pathlib import Path

import pytest
from chaos import SearchProcess, environment, longer_spec, processes
from listening import beyond_loopback, listening
from study_toys import write_study

from prunepeft_ray.config import dump_yaml

LONG = {"epochs": 200, "patience": 200, "max_length": 32}


def write_search(file, model, task):
    file.write_text(dump_yaml(longer_spec(model, task)))
    return ["search", "--config", str(file), "--workers", "2"]


def write_two_workers_study(file, model, task):
    execution = {"workers": 2, "cpus": 0.5, "checkpoint_seconds": 0.3}
    write_study(file, model, task, methods=["random-search"], execution=execution, training=LONG)
    return ["compare", str(file)]


@pytest.mark.parametrize(
    ("write", "first", "other"),
    [(write_search, "RayTrainWorker", "RayTrainWorker"), (write_two_workers_study, "ResourceTrainable", "Worker")],
    ids=["search", "study"],
)
def test_a_run_keeps_to_this_machine_and_leaves_nothing_behind(tmp_path, tiny_bert, small_task, write, first, other):
    # too long for Ray's sockets
    temporary = tmp_path / ("t" * 120)
    temporary.mkdir()
    command = write(tmp_path / "spec.yaml", tiny_bert, small_task)
    env = environment(TMPDIR=str(temporary))
    run = SearchProcess(tmp_path / "run", [*command, "--output", str(tmp_path / "run")], tmp_path / "log", env)
    try:
        run.wait_until(run.has_checkpoint)
        everyone = processes(run.mark)
        found = listening(everyone)
        assert beyond_loopback(found) == {}, {pid: everyone[pid] for pid in beyond_loopback(found)}
        # each has its socket for Ray and that of gloo, and the first of a group the store's
        assert 3 in [len(found[pid]) for pid in run.workers(first)]
        assert 2 in [len(found[pid]) for pid in run.workers(other)]
        # Ray lets everybody into the folder that it is given
        (folder,) = {Path(path).parent for path in re.findall(r"--temp-dir=([^\0 ]+)", " ".join(everyone.values()))}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

        assert run.end(signal.SIGTERM) == 143, run.told
        assert not folder.exists()
        assert list(temporary.iterdir()) == []
    finally:
        run.kill_all()

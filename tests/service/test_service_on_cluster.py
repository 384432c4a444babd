"""Search jobs on real clusters, disturbed as clusters are: each ends like a run that nobody disturbed."""

import json
import os
import threading
from contextlib import chdir
from pathlib import Path

import pytest
import service_bench
from chaos import LONGER, jobs_before
from execution_toys import answer, job_ids, make_spec, search_here
from listening import beyond_loopback, listening
from study_toys import assert_same_study, study_answer, study_here, write_study

from prunepeft_ray.cli.main import run
from prunepeft_ray.config import dump_yaml
from prunepeft_ray.methods import METHODS
from prunepeft_ray.processes import family
from prunepeft_ray.service import Client
from prunepeft_ray.service.package import code_modules
from prunepeft_ray.waiting import wait_until

TASK = "inputs/small.csv"
LAST = ("training.epochs=90", "training.patience=90")
"""Time enough at the end of a search to stop it."""


@pytest.fixture(scope="module")
def home(tmp_path_factory, small_task):
    """A folder to work in, with the task where it lies in a package too, so that it has the same name."""
    home = tmp_path_factory.mktemp("home")
    (home / "inputs").mkdir()
    (home / TASK).write_bytes(small_task.read_bytes())
    return home


@pytest.fixture(scope="module")
def search(home, tiny_bert):
    """A search of some seconds, and its answer when it runs undisturbed in this process."""
    return undisturbed_search(home, "search", make_spec(tiny_bert, Path(TASK)))


@pytest.fixture(scope="module")
def longer(home, tiny_bert):
    """A search with time to disturb it."""
    return undisturbed_search(home, "longer", make_spec(tiny_bert, Path(TASK), *LONGER, *LAST))


def undisturbed_search(home, name, spec):
    (home / f"{name}.yaml").write_text(dump_yaml(spec))
    with chdir(home):
        search_here(spec, home / name)
    return home / f"{name}.yaml", answer(home / name)


@pytest.fixture(scope="module")
def study(home, tiny_bert):
    """A study of two methods, and its answer."""
    changes = {"methods": ["random-search", "optuna-tpe"], "limits": {"evaluations": 8}}
    file = write_study(home / "study.yaml", tiny_bert, Path(TASK), **changes)
    with chdir(home):
        return file, study_answer(study_here(file, home / "study"))


@pytest.fixture
def client(bench, home, monkeypatch):
    """A client of the cluster of all tests, in the folder to work in."""
    return client_of(bench, home, monkeypatch)


@pytest.fixture(scope="module")
def three_nodes(tmp_path_factory):
    """A head and two worker nodes of one CPU each, to do with as one likes."""
    with service_bench.running_cluster(tmp_path_factory.mktemp("state")) as bench:
        yield bench


@pytest.fixture
def client_of_three(three_nodes, home, monkeypatch):
    """A client of that cluster, in the folder to work in."""
    return client_of(three_nodes, home, monkeypatch)


def client_of(bench, home, monkeypatch):
    monkeypatch.chdir(home)
    for name in [name for name in os.environ if name.startswith(("RAY_AUTH", "RAY_API", "RAY_ADDRESS"))]:
        monkeypatch.delenv(name)
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH", "PRUNEPEFT_STATE"):
        monkeypatch.setenv(name, bench.env[name])
    return Client()


def printed(capsys, *arguments, code=0):
    assert run(list(arguments)) == code, capsys.readouterr().err
    return capsys.readouterr()


def finish(client, job):
    found = client.wait(job)
    assert found.state == "finished", client.logs(job)


def test_a_search_from_submission_to_fetch(client, bench, longer, tmp_path, capsys):
    file, expected = longer
    output = tmp_path / "run"
    told = printed(capsys, "submit", str(file), "--output", str(output), "--workers", "2", "--name", "long")
    job = told.out.strip()
    assert f"prunepeft logs {job} -f" in told.err
    (row,) = [row for row in json.loads(printed(capsys, "jobs", "--json").out) if row["id"] == job]
    assert row["kind"] == "search"
    assert job in printed(capsys, "jobs").out

    # while two workers train, all processes keep to this machine
    wait_until(lambda: list(output.glob("checkpoints/*.ckpt")), 400, lambda: client.logs(job))
    sockets = listening(process.pid for process in family(bench.cluster.mark))
    assert len(sockets) > 20
    # the first worker has Ray's, gloo's and the store's
    assert 3 in map(len, sockets.values())
    assert beyond_loopback(sockets) == {}

    # it is stopped in the middle, and resumed
    assert "is stopped; resume it with 'prunepeft resume" in printed(capsys, "stop", job).err
    assert len(job_ids(output)) < len(expected["jobs"])
    assert "has already ended: stopped" in printed(capsys, "stop", job).err
    assert client.status(job).state == "stopped"
    told = printed(capsys, "resume", job, "--wait")
    assert f"resuming {output}" in told.out
    assert "@prunepeft" not in told.out
    finish(client, job)
    assert answer(output) == expected
    assert client.status(job).submission.attempt == 2

    # a finished job says so, and is brought home
    assert "is finished: there is nothing to resume" in printed(capsys, "resume", job, code=2).err
    assert "dev accuracy" in printed(capsys, "status", job).out
    printed(capsys, "fetch", job, "--output", str(tmp_path / "home"))
    assert answer(tmp_path / "home") == expected
    assert not (tmp_path / "home" / "checkpoints").exists()


@pytest.mark.slow
def test_three_jobs_at_once_from_submission_to_report(client_of_three, search, longer, study, tmp_path, capsys):
    client = client_of_three
    # the one to be stopped comes last, or it may have ended by then
    names = {"quick": search[0], "many": study[0], "long": longer[0]}
    outputs = {name: tmp_path / name for name in names}
    ids = {}
    for name, file in names.items():
        told = printed(capsys, "submit", str(file), "--output", str(outputs[name]), "--name", name)
        ids[name] = told.out.strip()
        assert f"prunepeft logs {ids[name]} -f" in told.err or f"prunepeft status {ids[name]}" in told.err
    listed = json.loads(printed(capsys, "jobs", "--json").out)
    assert {row["id"]: row["kind"] for row in listed} == {
        ids["quick"]: "search",
        ids["long"]: "search",
        ids["many"]: "study",
    }
    table = printed(capsys, "jobs").out
    assert all(job in table for job in ids.values())

    # one is stopped by hand in the middle, while the others go on
    wait_until(lambda: len(job_ids(outputs["long"])) >= 1, 400, lambda: client.logs(ids["long"]))
    assert "is stopped; resume it with 'prunepeft resume" in printed(capsys, "stop", ids["long"]).err
    there = job_ids(outputs["long"])
    assert 1 <= len(there) < len(longer[1]["jobs"])
    assert "has already ended: stopped" in printed(capsys, "stop", ids["long"]).err
    assert client.status(ids["long"]).state == "stopped"
    told = printed(capsys, "resume", ids["long"], "--wait")
    assert f"resuming {outputs['long']}" in told.out
    assert "@prunepeft" not in told.out
    for job in ids.values():
        finish(client, job)
    assert answer(outputs["quick"]) == search[1]
    assert answer(outputs["long"]) == longer[1]
    assert_same_study(outputs["many"], study[1])
    assert client.status(ids["long"]).submission.attempt == 2

    # a finished job says so, is brought home, and has a report
    assert "is finished: there is nothing to resume" in printed(capsys, "resume", ids["quick"], code=2).err
    printed(capsys, "fetch", ids["quick"], "--output", str(tmp_path / "home"))
    assert answer(tmp_path / "home") == search[1]
    assert not (tmp_path / "home" / "checkpoints").exists()
    assert "report.html" in printed(capsys, "report", ids["many"]).err
    assert (outputs["many"] / "report.html").stat().st_size > 10_000
    assert "dev accuracy" in printed(capsys, "status", ids["quick"]).out


def test_what_the_cluster_refuses_leaves_nothing_there(client, search, tmp_path, capsys):
    before = {job.id for job in client.jobs()}
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "something").write_text("x")
    told = printed(capsys, "submit", str(search[0]), "--output", str(taken), code=2)
    assert told.err.strip().splitlines()[-1].startswith(f"error: --output {taken} is not empty")
    told = printed(
        capsys, "submit", str(search[0]), "--output", str(tmp_path / "x"), "--set", "model=/nowhere/model", code=2
    )
    assert "/nowhere/model" in told.err.splitlines()[-1]
    assert {job.id for job in client.jobs()} == before
    assert list(taken.iterdir()) == [taken / "something"]
    assert not (tmp_path / "x").exists()


def test_the_code_may_travel_with_its_methods(client):
    asks = "import prunepeft_baselines as b, prunepeft_ray as p; print(p.__file__, b.__file__, *p.METHODS)"
    client._server.submit("code", f"exec python -P -c '{asks}'", {}, {"py_modules": code_modules()})
    wait_until(lambda: client._server.job("code").status.is_terminal(), 400, lambda: client._server.log("code"))
    package, rivals, *methods = client._server.log("code").splitlines()[-1].split()
    assert "py_modules" in package
    assert "py_modules" in rivals
    assert set(methods) == set(METHODS)


def test_a_wrong_token_is_refused(bench, home, monkeypatch, tmp_path, capsys):
    client_of(bench, home, monkeypatch)
    (tmp_path / "token").write_text("wrong")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert "rejected the token from RAY_AUTH_TOKEN_PATH" in printed(capsys, "jobs", code=2).err


@pytest.mark.slow
def test_a_worker_node_dies_during_a_round(client_of_three, three_nodes, home, longer, tmp_path):
    client, bench = client_of_three, three_nodes
    output = tmp_path / "run"
    job = client.submit(longer[0], output=output, workers=2)
    warmed_up = jobs_before(home / "longer")["round"]
    wait_until(lambda: len(job_ids(output)) >= warmed_up, 400, lambda: client.logs(job.id))
    bench.kill_node(2)
    bench.kill_node(1)
    finish(client, job.id)
    assert answer(output) == longer[1]
    bench.add_node()
    bench.add_node()


@pytest.mark.slow
def test_the_head_restarts_during_a_study(client_of_three, three_nodes, home, study, tmp_path, monkeypatch, capsys):
    client, bench = client_of_three, three_nodes
    output = tmp_path / "run"
    job = client.submit(study[0], output=output)
    wait_until(lambda: len(job_ids(output)) >= 3, 400, lambda: client.logs(job.id))
    bench.restart_head()
    client = client_of(bench, home, monkeypatch)
    there = job_ids(output)
    assert 3 <= len(there) < len(study[1]["results"])
    assert client.jobs() == []
    assert "prunepeft resume DIR" in printed(capsys, "status", job.id, code=2).err
    # the folder is enough: the job is the same again
    again = client.resume(output)
    assert again.id == job.id
    finish(client, job.id)
    assert_same_study(output, study[1])


@pytest.mark.slow
def test_separate_hosts_and_a_folder_that_they_do_not_share(home, longer, tmp_path, monkeypatch, capsys):
    hidden, state = tmp_path / "hidden", tmp_path / "state"
    hidden.mkdir()
    state.mkdir()
    with service_bench.hosts(state, nodes=2, hidden=hidden) as bench:
        client = client_of(bench, home, monkeypatch)
        told = printed(capsys, "submit", str(longer[0]), "--output", str(hidden / "run"), code=2)
        assert "is not visible on all nodes of the cluster" in told.err
        assert list(hidden.iterdir()) == []
        output = tmp_path / "run"
        job = client.submit(longer[0], output=output, workers=2)
        lines = []
        follower = threading.Thread(target=lambda: lines.extend(client.follow(job.id)))
        follower.start()
        finish(client, job.id)
        follower.join(30)
    assert answer(output) == longer[1]
    assert any(line.startswith("final retraining") for line in lines)

"""A local cluster comes up, keeps to this machine, and goes with all that was started and nothing else."""

import json
import signal
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from service_bench import FAST, clean_environment

from prunepeft_ray.cluster.local import start_stop as local_cluster
from prunepeft_ray.cluster.local.nodes import node_states
from prunepeft_ray.cluster.local.start_stop import start_local_cluster, stop_local_cluster
from prunepeft_ray.cluster.local.state import LocalCluster, find_local_cluster
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.processes import Process, family, is_alive, send
from prunepeft_ray.waiting import wait_until

PROGRAM = (sys.executable, "-c", "from prunepeft_ray.cli.main import main; main()")


@pytest.fixture
def state(bench):
    """Where that cluster is written down."""
    return Path(bench.env["PRUNEPEFT_STATE"])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A state folder in which no cluster is written down."""
    monkeypatch.setenv("PRUNEPEFT_STATE", str(tmp_path))
    return tmp_path


def prunepeft(env, *arguments):
    return subprocess.run([*PROGRAM, *arguments], env=env, capture_output=True, text=True, timeout=400)


def test_its_token_is_in_a_private_file_and_nowhere_else(bench, state):
    token = bench.token_file.read_text()
    assert len(token) == 64
    assert stat.S_IMODE(bench.token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((state / "cluster").stat().st_mode) == 0o700
    assert stat.S_IMODE(bench.cluster.temp.stat().st_mode) == 0o700
    assert token not in (state / "cluster" / "cluster.json").read_text()
    for process in family(bench.cluster.mark):
        for shown in ("cmdline", "environ"):
            assert token.encode() not in Path(f"/proc/{process.pid}/{shown}").read_bytes()


def test_it_answers_nobody_without_the_token(bench):
    for headers in ({}, {"Authorization": f"Bearer {'0' * 64}"}):
        request = urllib.request.Request(f"{bench.address}/api/v0/nodes", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        assert refused.value.code in (401, 403)


def test_it_is_found_and_shown(bench, state):
    found = prunepeft(bench.env, "cluster", "status", "--json")
    shown = json.loads(found.stdout)
    assert shown["address"] == bench.address
    assert [node["is_head"] for node in shown["nodes"]] == [True, False]
    assert {(node["state"], node["cpus"], node["gpus"]) for node in shown["nodes"]} == {("ALIVE", 1.0, 0.0)}
    assert "head" in prunepeft(bench.env, "cluster", "status").stdout


def test_a_second_one_is_refused(bench, state):
    second = prunepeft(bench.env, "cluster", "up", "--local", "2")
    assert second.returncode == 2
    assert second.stderr == (
        f"error: a local cluster is already running at {bench.address}: use it, "
        "or stop it with 'prunepeft cluster down'\n"
    )
    assert bench.alive() == 2


@pytest.mark.slow
def test_another_one_beside_it_comes_and_goes_alone(bench, tmp_path):
    env = clean_environment(**FAST, PRUNEPEFT_STATE=str(tmp_path / "beside"))
    up = prunepeft(env, "cluster", "up", "--local", "1", "--cpus", "1")
    assert up.returncode == 0, up.stderr
    beside = LocalCluster.read(tmp_path / "beside" / "cluster" / "cluster.json")
    assert f"a cluster of 1 node is running at {beside.address}" in up.stdout
    assert str(beside.token_file) in up.stdout
    assert beside.address != bench.address
    down = prunepeft(env, "cluster", "down")
    assert down.returncode == 0, down.stderr
    assert f"stopped the local cluster at {beside.address}" in down.stdout
    assert family(beside.mark) == set()
    assert not beside.temp.exists()
    assert [file.name for file in beside.folder.iterdir()] == [".lock"]
    assert bench.alive() == 2


def test_a_node_that_died_is_noticed_and_another_one_joins(bench):
    bench.kill_node(1)
    wait_until(lambda: bench.alive() == 1, 200, "the lost node stays alive")
    index = bench.add_node()
    assert bench.alive() == 2
    assert is_alive(bench.cluster.nodes[index])


@pytest.mark.ray
@pytest.mark.parametrize(
    ("number", "head_too"),
    [(signal.SIGINT, False), (signal.SIGKILL, False), (signal.SIGKILL, True)],
    ids=["interrupted", "killed", "killed with the head"],
)
def test_nothing_is_left_of_a_start_that_was_cut_short(number, head_too, tmp_path):
    env = clean_environment(**FAST, PRUNEPEFT_STATE=str(tmp_path))
    up = subprocess.Popen(
        [*PROGRAM, "cluster", "up", "--local", "2"],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    file = tmp_path / "cluster" / "cluster.json"
    wait_until(lambda: file.exists() and LocalCluster.read(file).nodes, 200, "no node starts")
    cluster = LocalCluster.read(file)
    wait_until(lambda: len(family(cluster.mark)) > 1, 200, "the head has no children")
    up.send_signal(number)
    up.wait(200)
    if number == signal.SIGINT:
        assert family(cluster.mark) == set()
    if head_too:
        send(cluster.nodes[0], signal.SIGKILL)
    down = prunepeft(env, "cluster", "down")
    assert down.returncode == 0, down.stderr
    assert family(cluster.mark) == set()
    assert not cluster.temp.exists()
    assert not file.exists()


@pytest.mark.ray
def test_a_start_that_fails_ends_what_was_started_and_says_why(elsewhere, monkeypatch):
    seen = []

    def too_small(cluster, cpus, store_bytes):
        seen.append(cluster)
        return local_cluster._add(cluster, ["--address", cluster.gcs], cpus, 1)

    monkeypatch.setattr(local_cluster, "add_node", too_small)
    with pytest.raises(RunError, match=r"node 1 of the cluster did not start: .*minimum allowed is") as failed:
        start_local_cluster(2, 1, 0, lambda event: None)
    assert "\n" not in str(failed.value)
    assert family(seen[0].mark) == set()
    assert not seen[0].temp.exists()
    assert find_local_cluster() is None
    assert sorted(file.name for file in seen[0].folder.iterdir()) == [".lock", "node-0.log", "node-1.log"]


def written_down(folder, *nodes):
    """A cluster that is written down."""
    (folder / "cluster").mkdir(parents=True)
    (folder / "temp").mkdir()
    cluster = LocalCluster(
        address="http://127.0.0.1:1",
        gcs="127.0.0.1:2",
        token_file=folder / "cluster" / "token",
        nodes=nodes,
        folder=folder / "cluster",
        temp=folder / "temp",
        mark="nobody-bears-it",
    )
    cluster.save()
    return cluster


def test_what_is_written_down_is_read_again(elsewhere):
    cluster = written_down(elsewhere, Process.this())
    assert LocalCluster.read(cluster.folder / "cluster.json") == cluster
    assert find_local_cluster() == cluster


@pytest.mark.parametrize("change", [{"birth": "1"}, {"boot": "before"}], ids=["id given to a stranger", "rebooted"])
def test_what_is_left_of_a_cluster_that_is_gone_is_removed(elsewhere, change):
    told = []
    cluster = written_down(elsewhere, replace(Process.this(), **change))
    assert find_local_cluster() is None
    assert stop_local_cluster(lambda event: told.append(event.text)) == cluster
    assert told == ["its processes had already stopped"]
    assert not cluster.temp.exists()
    assert stop_local_cluster(lambda event: told.append(event.text)) is None


def test_a_cluster_of_another_machine_is_left_alone(elsewhere):
    cluster = written_down(elsewhere, replace(Process.this(), host="another"))
    for act in (stop_local_cluster, lambda emit: start_local_cluster(1, None, None, emit)):
        with pytest.raises(InputError, match="belongs to a cluster on another"):
            act(lambda event: None)
    assert cluster.temp.exists()


def test_two_starts_at_once_are_told_apart(elsewhere, monkeypatch):
    inside, go_on = threading.Event(), threading.Event()

    def slow(cluster, *_arguments):
        inside.set()
        go_on.wait(200)
        return cluster

    monkeypatch.setattr(local_cluster, "start_nodes", slow)
    first = threading.Thread(target=start_local_cluster, args=(1, None, None, lambda event: None))
    first.start()
    inside.wait(200)
    with pytest.raises(InputError, match="another 'prunepeft cluster' is running"):
        start_local_cluster(1, None, None, lambda event: None)
    go_on.set()
    first.join()
    stop_local_cluster(lambda event: None)


def test_a_cluster_that_does_not_answer_is_a_clear_line(elsewhere):
    cluster = written_down(elsewhere, Process.this())
    cluster.token_file.write_text("token")
    with pytest.raises(RunError, match=r"does not respond .*refused.*; stop it with 'prunepeft cluster down'"):
        node_states(cluster)

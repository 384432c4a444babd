"""``prunepeft cluster`` without a cluster: wrong input is one line, and nothing to do is no error."""

import json

import pytest

from prunepeft_ray.cli.main import run


@pytest.fixture(autouse=True)
def _no_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNEPEFT_STATE", str(tmp_path / "state"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["up"], "'prunepeft cluster up --local 2' starts two nodes on this machine"),
        (["up", "--local", "0"], "--local 0: a local cluster has 1 to 32 nodes"),
        (["up", "--local", "-1"], "--local -1: a local cluster has 1 to 32 nodes"),
        (["up", "--local", "33"], "--local 33: a local cluster has 1 to 32 nodes"),
        (["up", "--local", "x"], "'--local': Input should be a valid integer"),
        (["up", "--local", "1.5"], "'--local': Input should be a valid integer"),
        (["up", "--local", "2", "--cpus", "0"], "--cpus 0: a node needs at least 1 CPU"),
        (["up", "--local", "2", "--gpus", "-1"], "--gpus -1: expected 0 or more"),
        (["up", "--locla", "2"], "--local"),
        (["dwon"], "Did you mean 'down'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line_that_says_what_is_right(capsys, arguments, says, tmp_path):
    assert run(["cluster", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", ["status", "down"])
def test_without_a_cluster_there_is_nothing_to_do(capsys, command, tmp_path):
    assert run(["cluster", command]) == 0
    assert "no local cluster is running; start one with 'prunepeft cluster up --local 2'" in capsys.readouterr().out
    assert not (tmp_path / "state").exists()


def test_without_a_cluster_the_status_for_programs_has_no_nodes(capsys):
    assert run(["cluster", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"address": None, "nodes": []}


def test_what_was_written_down_and_is_damaged_is_told(capsys, tmp_path):
    (tmp_path / "state" / "cluster").mkdir(parents=True)
    (tmp_path / "state" / "cluster" / "cluster.json").write_text('{"address": ')
    for command in (["status"], ["down"], ["up", "--local", "2"]):
        assert run(["cluster", *command]) == 2
        assert "cluster.json is damaged" in capsys.readouterr().err


def test_a_state_folder_that_cannot_be_made_is_told(capsys, tmp_path):
    (tmp_path / "state").write_text("a file")
    assert run(["cluster", "up", "--local", "2"]) == 2
    assert "set PRUNEPEFT_STATE to another folder" in capsys.readouterr().err

"""Wrong commands about clusters end with exit code 2 and one line; nothing is submitted."""

import json
from types import SimpleNamespace

import pytest
import yaml
from dashboards import NODES, answering, nodes_answer, ray_answers, status_answer

from prunepeft_ray.cli.main import run

SEARCH = {"model": "packaged:minilm", "task": "packaged:movie", "budget": "1%"}
STUDY = {"models": ["packaged:minilm"], "tasks": ["packaged:movie"], "methods": ["prunepeft"], "budget": "1%"}
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRUNEPEFT_STATE", str(tmp_path / "state"))
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(SEARCH))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))


@pytest.fixture
def answering_cluster(monkeypatch):
    """A cluster of a node of 1 CPU, and one of 2 CPUs and a GPU; nothing can be submitted to it."""
    answers = {"/api/v0/nodes": json.dumps(nodes_answer()), "/api/cluster_status": json.dumps(status_answer())}
    with answering(ray_answers(**answers | {"/api/jobs/": "[]"}), token="right") as address:
        monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
        yield address


def complaint(capsys, arguments, code=2):
    assert run(arguments) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["jobs"],
        ["submit", "search.yaml"],
        ["status", "demo-3f2a"],
        ["logs", "demo-3f2a"],
        ["stop", "demo-3f2a"],
        ["fetch", "demo-3f2a"],
        ["resume", "demo-3f2a"],
        ["report", "demo-3f2a"],
    ],
)
def test_without_a_cluster_it_says_how_to_name_or_start_one(capsys, arguments):
    told = complaint(capsys, arguments)
    assert "use --address http://HEAD:8265 or set RAY_API_SERVER_ADDRESS" in told
    assert "prunepeft cluster up --local 2" in told


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["jobs", "--address", NOBODY], 1, "no Ray cluster answers at http://127.0.0.1:9"),
        (["jobs", "--address", "auto"], 2, "auto: this is Ray's own address, but search jobs take that of the"),
        (["jobs", "--address", "ray://head:10001"], 2, "take that of the cluster's dashboard: http://HEAD:8265"),
        (["status", "demo-3f2a", "--address", "head:6379"], 2, "head:6379: this is Ray's own address"),
        (["resume", "demo-3f2a", "--address", "auto"], 2, "auto: this is Ray's own address"),
        (["resume", "runs/demo", "--address", NOBODY], 1, "no Ray cluster answers at http://127.0.0.1:9"),
        (["submit", "search.yaml", "--priority", "11"], 2, "priority 11: expected -10 to 10"),
        (["submit", "search.yaml", "--cpus", "0"], 2, "expected a number greater than 0"),
        (["submit", "search.yaml", "--workers", "0"], 2, "--workers"),
        (["submit"], 2, "FILE.yaml"),
        (["resume", "search.yaml", "--priority", "1"], 2, "are only for search jobs on a cluster"),
        (["jbos"], 2, "Did you mean 'jobs'"),
    ],
)
def test_wrong_commands_are_told(capsys, arguments, code, says):
    assert says in complaint(capsys, arguments, code)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["submit", "nope.yaml"], "nope.yaml: cannot be read"),
        (["submit", "search.yaml"], "--output is missing"),
        (["submit", "search.yaml", "--output", "runs/x"], "expected an absolute path that all nodes share"),
        (["submit", "search.yaml", "--output", "s3://key:secret@bucket/run"], "credentials do not belong in a URL"),
        (["submit", "search.yaml", "--output", "/x", "--set", "training.epoch=1"], "did you mean 'training.epochs'"),
        (["submit", "study.yaml", "--output", "/x", "--set", "seeds=[1]"], "write its settings into the file"),
        (["submit", "study.yaml", "--output", "/x", "--workers", "2"], "a study says execution.workers"),
        (["submit", "search.yaml", "--output", "/x", "--workers", "2"], "2 workers need 2 GPUs, but the cluster at"),
        (
            ["submit", "study.yaml", "--output", "/x", "--cpus", "0.5"],
            "at most 0.5 CPUs: expected at least 1, which a single job needs",
        ),
        (["submit", "search.yaml", "--output", "/x", "--name", "!!"], "expected at least one letter or digit"),
        (
            ["submit", "search.yaml", "--output", "/x", "--pool", "jobs"],
            "jobs: expected an absolute path that all nodes",
        ),
        (["submit", "search.yaml", "--output", "/x", "--track", "tensorbord"], "did you mean 'tensorboard'"),
        (["status", "demo-3f2a"], "none has been submitted since the cluster's head node started"),
        (["resume", "demo-3f2a"], "prunepeft resume DIR"),
        (["fetch", "demo"], "no search job 'demo'"),
        (["report", "demo"], "no search job 'demo'"),
    ],
)
def test_wrong_wishes_are_told_before_anything_is_submitted(capsys, answering_cluster, arguments, says):
    told = complaint(capsys, arguments)
    assert says in told
    assert "secret@" not in told


def test_what_never_fits_is_told_with_what_there_is(capsys, answering_cluster, tmp_path):
    large = STUDY | {"execution": {"cpus": 4, "gpus": 0}}
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(large))
    told = complaint(capsys, ["submit", "large.yaml", "--output", "/x"])
    assert "a training job needs 4 CPUs" in told
    assert "3 CPUs and 1 GPU on 2 nodes, at most 2 CPUs on one" in told


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:6379"])
def test_rays_own_address_of_the_local_cluster_finds_its_dashboard(capsys, monkeypatch, answering_cluster, address):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    local = SimpleNamespace(address=answering_cluster, gcs="127.0.0.1:6379", token_file=None)
    monkeypatch.setattr("prunepeft_ray.cluster.address.find_local_cluster", lambda: local)
    assert run(["jobs", "--address", address]) == 0
    assert "no search jobs" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["search", "--config", "search.yaml"], ["compare", "study.yaml"]])
@pytest.mark.parametrize("address", ["http://head:8265", "https://head", "head:8265"])
def test_a_dashboard_cannot_be_joined(capsys, tmp_path, command, address):
    told = complaint(capsys, [*command, "--output", "run", "--address", address])
    assert told.startswith(f"error: --address {address}: this is the address of a dashboard")
    assert "takes Ray's own: auto, HEAD:6379 or ray://HEAD:10001" in told
    assert not (tmp_path / "run").exists()


def test_a_token_is_not_shown(capsys, answering_cluster, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "very-secret")
    told = complaint(capsys, ["jobs"])
    assert "rejected the token from RAY_AUTH_TOKEN" in told
    assert "very-secret" not in told


def test_a_cluster_without_jobs_says_how_to_submit_one(capsys, answering_cluster):
    assert run(["jobs"]) == 0
    assert "prunepeft submit FILE.yaml" in capsys.readouterr().err
    assert run(["jobs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_search_on_cpus_fits_a_small_cluster(capsys, answering_cluster, monkeypatch):
    assert len(NODES) == 3
    answers = {"/api/v0/nodes": json.dumps(nodes_answer(NODES[:1])), "/api/jobs/": "[]"}
    answers |= {"/api/cluster_status": json.dumps(status_answer())}
    with answering(ray_answers(**answers)) as address:
        told = complaint(capsys, ["submit", "search.yaml", "--output", "/x", "--workers", "2", "--address", address])
    assert "2 workers need 2 CPUs, but the cluster at" in told
    assert "has 1 CPU: ask for less" in told

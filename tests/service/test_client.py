"""What the client makes of what the job server says; the server here is a list."""

import json
from types import SimpleNamespace

import pytest
import yaml
from service_fakes import a_submission, ray_details

from prunepeft_ray.cluster.sharing.terms import Terms
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.service import client as module
from prunepeft_ray.service.client import Client
from prunepeft_ray.service.run_owner import RunOwner
from prunepeft_ray.service.status import Status
from prunepeft_ray.service.submission import Submission

SPEC = {"model": "packaged:minilm", "task": "packaged:movie", "budget": "1%"}


class Server:
    """A job server whose jobs end as a test says."""

    address = "http://head:8265"

    def __init__(self):
        self.details, self.logs, self.deleted, self.stopped, self.environments = [], {}, [], [], []
        self.becomes = ("RUNNING", Status(state="running"), None)

    def add(self, submission, status="RUNNING", log=Status(state="running").line(), **more):  # noqa: B008
        self.details.append(ray_details(submission, status, len(self.details), **more))
        self.logs[submission.ray_id] = log

    def submit(self, job, entrypoint, metadata, runtime_env):
        submission = Submission.from_json(metadata["prunepeft"])
        assert job == submission.ray_id
        assert submission.to_json() in entrypoint.replace("'\"'\"'", "'")
        self.environments.append(runtime_env)
        status, said, code = self.becomes
        self.add(submission, status, said.line(), driver_exit_code=code, message=f"error: {said.error}")

    def jobs(self):
        return self.details

    def log_end(self, details, lines):
        return self.logs[details.submission_id]

    def log(self, job):
        return self.logs[job]

    def stop(self, job):
        self.stopped.append(job)
        for details in self.details:
            if details.submission_id == job:
                details.status = SimpleNamespace(value="STOPPED")

    def delete(self, job):
        self.deleted.append(job)

    def nodes(self):
        return [SimpleNamespace(resources={"CPU": 2.0})]

    def may_grow(self):
        return False


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNEPEFT_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    server = Server()
    monkeypatch.setattr(module, "find_cluster", lambda address: (address, None))
    monkeypatch.setattr(module, "JobServer", lambda address, token: server)
    return server


@pytest.fixture
def client(server):
    return Client("http://head:8265")


@pytest.fixture
def file(tmp_path):
    (tmp_path / "My search.yaml").write_text(yaml.safe_dump(SPEC))
    return tmp_path / "My search.yaml"


@pytest.mark.parametrize(
    ("status", "said", "state"),
    [
        ("PENDING", None, "starting"),
        ("RUNNING", None, "checking"),
        ("RUNNING", Status(state="waiting"), "waiting"),
        ("RUNNING", Status(state="running"), "running"),
        ("SUCCEEDED", Status(state="running"), "finished"),
        ("FAILED", Status(state="running"), "failed"),
        ("STOPPED", Status(state="running"), "stopped"),
    ],
)
def test_a_state_is_what_ray_says_and_while_it_runs_what_the_driver_says(client, server, status, said, state):
    server.add(a_submission(), status, said.line() if said else "")
    (job,) = client.jobs()
    assert job.state == state
    assert job.over == (state in ("finished", "failed", "stopped"))


def test_jobs_come_with_their_last_attempt_the_newest_first(client, server):
    first = a_submission()
    server.add(first, "FAILED")
    server.add(a_submission(job="trec-11b0"), "SUCCEEDED")
    server.add(first.again(2), "RUNNING")
    server.details.append(ray_details(None))
    assert [(job.id, job.submission.attempt, job.state) for job in client.jobs()] == [
        ("trec-11b0", 1, "finished"),
        ("demo-3f2a", 2, "running"),
    ]
    assert client.status("demo").started < client.status("trec").started


def test_a_submission_carries_what_was_asked_for(client, server, file, tmp_path):
    job = client.submit(
        file, output="/shared/run", terms=Terms(priority=2, cpus=1), workers=1, owner="ann", pool="/pool"
    )
    asked = job.submission
    assert asked.name == "my-search"
    assert (asked.owner, asked.kind, asked.output, asked.priority, asked.cpus) == ("ann", "search", "/shared/run", 2, 1)
    assert (asked.workers, asked.attempt, asked.resumes, asked.pool) == (1, 1, False, "/pool")
    (environment,) = server.environments
    assert "py_modules" not in environment
    assert environment["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"] == str(module.STOP_SECONDS)


def test_the_code_is_sent_only_if_that_is_wished(client, server, file):
    client.submit(file, output="/shared/run", ship_code=True)
    names = [path.rsplit("/", 1)[-1] for path in server.environments[0]["py_modules"]]
    assert names[:2] == ["prunepeft_ray", "prunepeft_baselines"]
    assert names[2].endswith("-info")


def test_what_the_driver_refuses_is_taken_away_again(client, server, file):
    server.becomes = ("FAILED", Status(state="checking", error="no such model"), 2)
    with pytest.raises(InputError, match="no such model"):
        client.submit(file, output="/shared/run")
    assert server.deleted == [server.details[0].submission_id]


def test_a_cluster_without_our_code_is_told(client, server, file):
    server.becomes = ("FAILED", Status(state="checking", error="python: No module named prunepeft_ray"), 1)
    with pytest.raises(RunError, match="--ship-code sends"):
        client.submit(file, output="/shared/run")
    assert server.deleted


def test_a_job_that_fails_later_is_kept_to_be_resumed(client, server, file):
    server.becomes = ("FAILED", Status(state="running", error="disk full"), 1)
    job = client.submit(file, output="/shared/run")
    assert (job.state, job.error) == ("failed", "disk full")
    assert server.deleted == []
    server.becomes = ("RUNNING", Status(state="running"), None)
    again = client.resume(job.id)
    assert (again.id, again.submission.attempt, again.submission.resumes) == (job.id, 2, True)
    assert "working_dir" not in server.environments[-1]


def test_a_resume_may_change_its_terms_and_keeps_the_others(client, server):
    server.add(a_submission(priority=3, cpus=4, workers=2, pool="s3://bucket/pool"), "STOPPED")
    asked = client.resume("demo-3f2a", workers=1).submission
    assert (asked.priority, asked.cpus, asked.workers, asked.pool) == (3, 4, 1, "s3://bucket/pool")
    server.details[-1].status = SimpleNamespace(value="STOPPED")
    asked = client.resume("demo-3f2a", priority=-1, gpus=2, pool="off").submission
    assert (asked.attempt, asked.priority, asked.cpus, asked.gpus, asked.workers) == (3, -1, 4, 2, 1)
    assert asked.pool == "off"


@pytest.mark.parametrize(("status", "says"), [("RUNNING", "is running"), ("SUCCEEDED", "is finished")])
def test_what_runs_or_is_finished_is_not_resumed(client, server, status, says):
    server.add(a_submission(), status)
    with pytest.raises(InputError, match=says):
        client.resume("demo-3f2a")


def test_a_job_that_the_cluster_forgot_is_found_by_its_folder(client, server, tmp_path):
    folder = tmp_path / "run"
    RunOwner("trec-11b0", "trec", "bob", "study", "2026-01-01", "", 2, cpus=3, track=("mlflow",)).take(folder)
    asked = client.resume(folder).submission
    assert (asked.job, asked.owner, asked.kind, asked.output) == ("trec-11b0", "bob", "study", str(folder))
    assert (asked.priority, asked.cpus, asked.track) == (2, 3, ("mlflow",))
    assert (asked.attempt, asked.resumes) == (1, True)


def test_a_folder_that_only_the_cluster_sees_is_resumed_too(client, server):
    asked = client.resume("/only/there/movie").submission
    assert (asked.name, asked.output, asked.resumes) == ("movie", "/only/there/movie", True)


def test_the_folder_of_a_known_job_is_that_job(client, server):
    server.add(a_submission(), "STOPPED")
    assert client.resume("/shared/runs/demo").id == "demo-3f2a"


def test_workers_are_not_for_studies(client, server):
    server.add(a_submission(kind="study"), "STOPPED")
    with pytest.raises(InputError, match=r"a study says execution\.workers"):
        client.resume("demo-3f2a", workers=2)


def test_a_study_that_is_submitted_again_to_its_folder_is_the_same_job(client, server, tmp_path):
    study = {"models": ["packaged:minilm"], "tasks": ["packaged:movie"], "methods": ["prunepeft"], "budget": "1%"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    server.add(a_submission(kind="study", output="/shared/s"), "SUCCEEDED")
    again = client.submit(tmp_path / "study.yaml", output="/shared/s")
    assert (again.id, again.submission.attempt, again.submission.resumes) == ("demo-3f2a", 2, False)
    with pytest.raises(InputError, match="demo-3f2a is running in /shared/s"):
        client.submit(tmp_path / "study.yaml", output="/shared/s")
    # and where the cluster has forgotten it
    RunOwner("trec-11b0", "trec", "bob", "study", "2026-01-01", "").take(tmp_path / "run")
    assert client.submit(tmp_path / "study.yaml", output=tmp_path / "run").id == "trec-11b0"


def test_of_several_jobs_in_a_folder_the_last_is_meant(client, server):
    server.add(a_submission(job="demo-9c01", submitted_at="2026-01-02"), "STOPPED")
    server.add(a_submission(), "SUCCEEDED")
    assert client.resume("/shared/runs/demo").id == "demo-9c01"


def test_stopping_waits_for_the_end_and_does_nothing_to_what_has_ended(client, server):
    server.add(a_submission())
    assert client.stop("demo").state == "stopped"
    assert server.stopped == ["demo-3f2a.1"]
    assert client.stop("demo").state == "stopped"
    assert server.stopped == ["demo-3f2a.1"]


def test_logs_are_those_of_the_last_attempt(client, server):
    server.add(a_submission(), "FAILED", "first\n")
    server.add(a_submission().again(2), "RUNNING", f"second\n{Status().line()}\n")
    assert client.logs("demo") == "second\n"


def test_jobs_as_json_are_plain(client, server):
    server.add(a_submission())
    assert json.loads(json.dumps([job.to_dict() for job in client.jobs()]))[0]["output"] == "/shared/runs/demo"

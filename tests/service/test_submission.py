"""What travels with a submitted job comes back the same, and ids, names and logs are read as people mean them."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service_fakes import a_job, a_submission, ray_details

from prunepeft_ray.errors import InputError
from prunepeft_ray.service.ids import clean_name, is_id, new_id, pick
from prunepeft_ray.service.status import Status, without_status
from prunepeft_ray.service.submission import Submission, submission_of
from prunepeft_ray.text import visible_line

IDS = ("demo-3f2a", "demo-9c01", "trec-11b0")
LOG = (
    "2026-01-01 12:00:00,000\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
    "Running entrypoint for job demo-3f2a.1: exec python -P -m prunepeft_ray drive x\n"
    f"{Status().line()}\n"
    "reading task packaged:movie\n"
    f"{Status(state='waiting', waits_for='1 CPU').line()}\n"
    "waiting for 1 CPU\n"
    "\x1b[33m(raylet)\x1b[0m WARNING: 6 PYTHON worker processes have been started\n"
)


@given(
    name=st.text(max_size=20),
    priority=st.integers(-10, 10),
    cpus=st.none() | st.floats(0.5, 100),
    track=st.lists(st.sampled_from(["mlflow", "wandb"]), max_size=2),
)
def test_a_submission_comes_back_from_json(name, priority, cpus, track):
    submission = a_submission(name=name, priority=priority, cpus=cpus, track=tuple(track))
    found = Submission.from_json(submission.to_json())
    assert found == replace(submission, name=visible_line(name))
    assert Submission.from_json(found.to_json()) == found


def test_a_submission_of_an_earlier_version_names_no_pool():
    data = json.loads(a_submission().to_json())
    del data["pool"]
    assert Submission.from_json(json.dumps(data)) == a_submission()


@pytest.mark.parametrize("pool", ["relative", "", "s3:/bucket", "/a\nb"])
def test_a_pool_that_is_no_place_is_refused(pool):
    with pytest.raises(ValueError, match="pool"):
        Submission.from_json(json.dumps(json.loads(a_submission().to_json()) | {"pool": pool}))


def test_what_a_later_version_adds_is_left_out():
    data = json.loads(a_submission().to_json()) | {"colour": "blue"}
    assert Submission.from_json(json.dumps(data)) == a_submission()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"job": "x"}'])
def test_what_is_no_submission_is_told(text):
    with pytest.raises(ValueError, match=r"."):
        Submission.from_json(text)


def test_jobs_of_others_carry_no_submission():
    assert submission_of(ray_details(None)) is None
    damaged = ray_details(a_submission(), metadata={"prunepeft": "{"})
    assert submission_of(damaged) is None
    assert submission_of(ray_details(a_submission())) == a_submission()


def test_the_next_attempt_goes_on_with_the_run():
    again = a_submission().again(2, workers=4)
    assert (again.ray_id, again.resumes, again.workers, again.output) == ("demo-3f2a.2", True, 4, "/shared/runs/demo")


def test_the_last_status_of_a_log_counts():
    assert Status.last_in(LOG) == Status(state="waiting", waits_for="1 CPU")
    assert Status.last_in("nothing\n") is None
    assert Status.last_in(Status.MARK + "{half") is None


def test_logs_are_shown_without_what_is_for_programs():
    assert without_status(LOG) == "reading task packaged:movie\nwaiting for 1 CPU\n"
    assert without_status("") == ""


@given(st.text(min_size=1))
def test_an_id_is_made_of_any_name_that_has_letters(name):
    try:
        cleaned = clean_name(name)
    except InputError:
        assert not any(c.isascii() and c.isalnum() for c in name.lower())
        return
    assert is_id(new_id(cleaned))


@pytest.mark.parametrize("text", ["runs/demo", "demo", "s3://b/demo-3f2a", "demo-3f2a.1", "demo-3F2A", "-3f2a"])
def test_what_is_no_id(text):
    assert not is_id(text)


def test_a_job_is_found_by_id_beginning_or_attempt():
    assert pick(IDS, "demo-9c01") == "demo-9c01"
    assert pick(IDS, "demo-9c01.3") == "demo-9c01"
    assert pick(IDS, "tr") == "trec-11b0"


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("demo", "is ambiguous: demo-3f2a or demo-9c01"),
        ("tred-11b0", "did you mean 'trec-11b0'"),
        ("", "unknown search job"),
    ],
)
def test_a_job_that_is_not_found_is_told(wanted, says):
    with pytest.raises(InputError, match=says):
        pick(IDS, wanted)


def test_a_cluster_that_forgot_its_jobs_points_to_the_folder():
    with pytest.raises(InputError, match="prunepeft resume DIR"):
        pick([], "demo-3f2a")


def test_why_a_job_failed_is_its_own_last_word():
    told = a_job(state="failed", status=Status(error="disk full"), message="Traceback\nKilled")
    assert told.error == "disk full"
    silent = a_job(state="failed", message=f"exit code 1\n{Status().line()}\nerror: no module\n")
    assert silent.error == "no module"
    assert a_job(state="failed").error == "its driver was lost"
    assert a_job(state="running", status=Status(error="old")).error == ""


def test_a_job_as_json_has_what_the_table_has():
    data = json.loads(json.dumps(a_job(status=Status(state="running", progress="half", cpus=2)).to_dict()))
    assert data["id"] == "demo-3f2a"
    assert (data["state"], data["progress"], data["holds_cpus"]) == ("running", "half", 2)
    assert data["track"] == ["tensorboard"]

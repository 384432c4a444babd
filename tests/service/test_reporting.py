"""A driver's log tells the client where the job stands."""

import pytest
from comparison_fakes import StudyFake

from prunepeft_ray.events import Event
from prunepeft_ray.execution.study.progress import MethodProgress
from prunepeft_ray.service import status_reporter as reporting
from prunepeft_ray.service.status import Status
from prunepeft_ray.service.status_reporter import Reporter


class Driver:
    def __init__(self, path, capsys):
        self.passed_on, self.capsys = [], capsys
        self.reporter = Reporter(path / "results", self.passed_on.append, self.passed_on.append)

    def hear(self, *arguments, **more):
        self.reporter.emit(Event(*arguments, **more))

    def status(self):
        return Status.last_in(self.capsys.readouterr().out)


@pytest.fixture
def driver(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reporting, "PAUSE_SECONDS", 0.0)
    return Driver(tmp_path, capsys)


def test_it_begins_by_checking(driver):
    assert driver.status() == Status(state="checking")


def test_news_are_passed_on(driver):
    driver.hear("message", "hello")
    assert driver.passed_on == [Event("message", "hello")]


def test_it_waits_says_for_what_and_runs(driver):
    driver.hear("accepted", "")
    found = driver.status()
    assert (found.state, found.waits_for) == ("waiting", "waiting for its share of the cluster")
    driver.hear("waiting", "waiting for 1 GPU")
    found = driver.status()
    assert (found.state, found.waits_for) == ("waiting", "waiting for 1 GPU")
    driver.hear("share", "", resources={"CPU": 2.0})
    found = driver.status()
    assert (found.state, found.waits_for, found.cpus, found.gpus) == ("running", "", 2, 0)


def test_jobs_and_the_best_come_from_the_store(driver, tmp_path):
    fake = StudyFake(tmp_path)
    first = fake.job("round", metrics={"accuracy": 0.61234, "loss": 1.0})
    driver.hear("start", "round 1/3", "round", first)
    driver.hear("progress", "round 1/3", "round", first, 30, 120)
    assert driver.status().progress == "0 training jobs, round 1/3 25 %"
    driver.hear("end", "done", "round", first)
    found = driver.status()
    assert (found.progress, found.best) == ("1 training job", "dev accuracy 0.6123 (round)")


def test_a_job_that_was_merely_stopped_is_not_counted(driver):
    driver.hear("end", "stopped; checkpoint saved", "round", "0" * 16)
    assert driver.status().best == ""


def test_a_study_tells_its_searches_and_the_best_of_each_place(driver):
    movie, trec = ("packaged:minilm", "packaged:movie"), ("packaged:minilm", "packaged:trec")
    rows = [
        MethodProgress("prunepeft", 1, 0, 2, 20, 1, {movie: 0.8, trec: None}, 3.0, 600.0),
        MethodProgress("autopeft", 0, 0, 2, 5, 1, {movie: 0.7, trec: 0.5}, 1.0, 90.0),
    ]
    driver.reporter.watch(rows)
    found = driver.status()
    assert found.progress == "1/4 searches, 25 training jobs, 10 min left"
    assert found.best == "movie 0.8000 (prunepeft), trec 0.5000 (autopeft)"


def test_single_training_jobs_do_not_hide_how_far_a_study_is(driver):
    driver.reporter.watch([MethodProgress("prunepeft", 1, 0, 2, 20, 1, {}, 3.0, 600.0)])
    driver.hear("progress", "round 1/3", "round", "x", 30, 120)
    driver.hear("end", "done", "round", "x")
    assert driver.status().progress == "1/2 searches, 20 training jobs, 10 min left"


def test_what_has_not_changed_is_told_again_after_a_while(driver, monkeypatch):
    driver.hear("waiting", "waiting for 1 GPU")
    driver.status()
    driver.hear("waiting", "waiting for 1 GPU")
    assert driver.status() is None
    monkeypatch.setattr(reporting, "AGAIN_SECONDS", 0.0)
    driver.hear("waiting", "waiting for 1 GPU")
    assert driver.status().waits_for == "waiting for 1 GPU"


def test_it_does_not_tell_what_has_not_changed_nor_too_often(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reporting, "PAUSE_SECONDS", 1000.0)
    driver = Driver(tmp_path, capsys)
    for done in range(100):
        driver.hear("progress", "round 1/3", "round", "x", done, 100)
    assert len(capsys.readouterr().out.splitlines()) == 2  # that it checks, and that it runs


def test_why_it_failed_is_told(driver):
    driver.reporter.fail("disk full")
    assert driver.status().error == "disk full"

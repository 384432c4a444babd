"""A whole search whose folder is a bucket, or memory, in this process; and the commands that read it."""

import json

import pytest
from execution_toys import answer, assert_same_answer, job_ids, make_spec, search_here

from prunepeft_ray import load_adapter, summarise
from prunepeft_ray.cli.main import run
from prunepeft_ray.execution.interruptions import StoppedError
from prunepeft_ray.results import ResultsStore, RunFolder
from prunepeft_ray.storage.paths import names, open_path
from prunepeft_ray.tasks import load_task


@pytest.fixture(scope="module")
def url(s3_server, spec):
    """A finished search in a bucket."""
    import fsspec

    fsspec.filesystem("s3").mkdir("finished-search")
    place = "s3://finished-search/runs/one"
    search_here(spec, open_path(place))
    return place


def files_of(path):
    return {str(file).removeprefix(str(path)) for file in path.rglob("*") if file.is_file()}


def test_a_search_in_a_bucket_gives_the_answer_of_one_on_a_disk(url, undisturbed):
    path, disk = open_path(url), undisturbed[0]
    assert_same_answer(answer(path), answer(disk))
    assert files_of(path) == files_of(disk) - {"/results/.lock"}


def test_what_was_lost_alone_is_done_again(url, spec, undisturbed):
    path = open_path(url)
    for name in ("architecture.json", "adapter/adapter_model.safetensors"):
        (path / name).unlink()
    lost = sorted(job_ids(path))[0]
    (path / "results" / "jobs" / f"{lost}.parquet").unlink()
    started = []
    search_here(spec, path, lambda event: started.append(event.job_id) if event.type == "start" else None, again=True)
    assert started == [lost]
    assert_same_answer(answer(path), answer(undisturbed[0]))


def test_the_adapter_in_a_bucket_is_the_one_on_a_disk(url, spec, undisturbed):
    test = load_task(spec.task).test
    found = []
    for place in (url, f"{url}/adapter", undisturbed[0]):
        predictor = load_adapter(place)
        found.append(predictor.evaluate(test))
        predictor.close()
    assert found[0] == found[1] == found[2]
    final = ResultsStore(open_path(url) / "results").read("jobs").query("kind == 'final'").iloc[0]
    assert found[0] == pytest.approx(final.test_metrics, abs=1e-6)


def test_a_report_of_a_bucket_says_what_one_of_a_disk_says(url, undisturbed):
    there = summarise(RunFolder.open(open_path(url))).to_dict()
    here = summarise(RunFolder.open(undisturbed[0])).to_dict()
    assert there.pop("folder") == url
    del here["folder"]
    for measured in (there, here):
        for phase in measured["phases"]:
            del phase["seconds"]
    assert there == here


@pytest.fixture
def closing(monkeypatch):
    """Takes the adapters of commands off their backbone, as the end of a command's process does."""
    loaded = []

    def load(*args):
        while loaded:
            loaded.pop().close()
        loaded.append(load_adapter(*args))
        return loaded[-1]

    monkeypatch.setattr("prunepeft_ray.training.load_adapter", load)
    yield
    while loaded:
        loaded.pop().close()


def test_the_commands_take_a_bucket(url, tmp_path, capsys, closing):
    assert run(["report", url, "--json", "--output", str(tmp_path / "found.svg")]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == url
    assert (tmp_path / "found.svg").read_text().startswith("<svg")
    assert run(["evaluate", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] > 0
    assert run(["predict", f"{url}/adapter", "--input", "good best good", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] in ("yes", "no")
    assert run(["resume", url]) == 0
    assert "nothing to resume" in capsys.readouterr().out


def test_a_search_in_memory_gives_that_answer_too(spec, undisturbed):
    path = open_path("memory://a-search/run")
    search_here(spec, path)
    assert_same_answer(answer(path), answer(undisturbed[0]))


def assert_complaint(capsys, arguments, code, *words):
    assert run(arguments) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    for word in ("error: ", *words):
        assert word in lines[0]


WRONG = {
    "s4://bucket/run": (2, "unknown scheme 's4'"),
    "s3:/bucket/run": (2, "s3://BUCKET/FOLDER"),
    "s3://": (2, "names no bucket"),
    "s3://nowhere-at-all/run": (2, "there is no such bucket"),
}


@pytest.mark.parametrize("place", WRONG)
def test_a_wrong_url_is_refused_before_ray_is_started(s3_server, capsys, tiny_bert, small_task, place):
    code, word = WRONG[place]
    search = ["search", "--model", tiny_bert, "--task", str(small_task), "--budget", "1500"]
    settings = [f"--set={setting}" for setting in ("space.rank=4", "space.bottleneck=4")]
    assert_complaint(capsys, [*search, *settings, "--output", place], code, place, word)
    for command in ("resume", "report", "evaluate"):
        assert_complaint(capsys, [command, place], code, place, word)


def test_an_empty_place_in_a_bucket_holds_nothing(bucket, capsys):
    assert_complaint(capsys, ["resume", f"{bucket}/run"], 2, "does not contain a run")
    assert_complaint(capsys, ["report", f"{bucket}/run"], 2, "does not contain a run")
    assert_complaint(capsys, ["predict", f"{bucket}/run", "--input", "x"], 2, "contains no adapter")


def test_another_search_in_a_bucket_is_left_alone(url, tiny_bert, small_task, capsys):
    before = answer(open_path(url))
    spec = make_spec(tiny_bert, small_task, seed=1)
    arguments = [f"--set={key}={value}" for key, value in (("space.rank", 4), ("space.bottleneck", 4))]
    command = ["search", "--model", spec.model, "--task", spec.task.name, "--budget", spec.budget, "--seed", "1"]
    assert_complaint(capsys, [*command, *arguments, "--output", url], 2, f"prunepeft resume {url}")
    assert_same_answer(answer(open_path(url)), before)


class StopInFinalTraining:
    """Wants a search to stop after some steps of its last job."""

    def __init__(self, jobs_before):
        self.ended, self.asked, self.jobs_before = 0, 0, jobs_before

    def hear(self, event):
        self.ended += event.type == "end"

    def __call__(self):
        self.asked += self.ended == self.jobs_before
        return self.asked > 4


def test_a_job_whose_state_is_kept_in_a_bucket_goes_on_where_it_was(bucket, spec, undisturbed):
    path, told = open_path(f"{bucket}/run"), []
    stop = StopInFinalTraining(len(job_ids(undisturbed[0])) - 1)
    with pytest.raises(StoppedError):
        search_here(spec, path, stop.hear, stop_wanted=stop)
    assert [name for name in names(path / "checkpoints") if name.endswith(".ckpt")]
    search_here(spec, path, told.append, again=True)
    assert [event.text for event in told if "final retraining: resuming after" in event.text]
    assert [name.split(".")[1] for name in names(path / "checkpoints")] == ["safetensors"]
    assert_same_answer(answer(path), answer(undisturbed[0]))

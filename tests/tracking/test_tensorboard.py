"""TensorBoard's own reader finds what was logged."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tracking_fakes import NOW, STUDY, RunFake, place, whole_search

from prunepeft_ray.tracking import Records, track
from prunepeft_ray.tracking.follower import Logbook
from prunepeft_ray.tracking.tensorboard import TensorBoard

TENSORBOARD = ["tensorboard"]


def runs(run):
    """All runs below a log folder, by name, as TensorBoard shows them."""
    shown = EventMultiplexer().AddRunsFromDirectory(str(run.folder.path / "tensorboard")).Reload()
    return {name: shown.GetAccumulator(name) for name in sorted(shown.Runs())}


def scalars(events, tag):
    return [(event.step, event.value, event.wall_time - NOW.timestamp()) for event in events.Scalars(tag)]


def text(events, tag):
    return events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()


def test_a_search_is_a_run_and_each_job_a_run_inside_it(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, TENSORBOARD)
    names = [name.rpartition("-")[0] or name for name in runs(run)]
    assert names == ["demo", "demo/final-3", "demo/round-2", "demo/warmup-1"]


def test_a_job_has_its_epochs_as_steps_at_the_time_they_ended(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, TENSORBOARD)
    events = next(events for name, events in runs(run).items() if "final" in name)
    assert scalars(events, "train/loss") == [(1, 0.75, 140), (2, 0.25, 170)]
    assert scalars(events, "dev/accuracy") == [(1, 0.5, 140), (2, 0.75, 170)]
    assert scalars(events, "result/test/accuracy") == [(2, 0.625, 180)]
    assert scalars(events, "result/cost/flops") == [(2, 4e9, 180)]
    assert text(events, "job") == "final: final 3: done"


def test_a_job_can_be_compared_by_its_hyperparameters(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, TENSORBOARD)
    events = next(events for name, events in runs(run).items() if "final" in name)
    start = HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    given = start.session_start_info.hparams
    assert given["kind"].string_value == "final"
    assert given["method"].string_value == "prunepeft"
    assert given["epochs"].number_value == 2
    assert "train_size" not in given


def test_the_search_has_its_series_its_settings_and_its_result(tmp_path):
    run = whole_search(tmp_path / "demo")
    track(run.folder, TENSORBOARD)
    events = runs(run)["demo"]
    assert scalars(events, "search/epochs") == [(1, 2, 60), (2, 4, 120), (3, 6, 180)]
    assert scalars(events, "search/best_dev") == [(3, 0.75, 180)]
    assert scalars(events, "result/test/accuracy") == [(3, 0.625, 180)]
    assert '"budget": "1%"' in text(events, "settings")
    assert '"lora"' in text(events, "architecture")
    assert text(events, "status") == "done"


def test_a_resumed_search_logs_nothing_twice(tmp_path):
    run = RunFake(tmp_path / "demo")
    run.job()
    track(run.folder, TENSORBOARD)
    track(run.folder, TENSORBOARD)
    run.job("final", 0.75)
    run.finish()
    track(run.folder, TENSORBOARD)
    track(run.folder, TENSORBOARD)
    events = runs(run)["demo"]
    assert scalars(events, "search/jobs") == [(1, 1, 60), (2, 2, 120)]
    assert scalars(events, "result/parameters") == [(2, 900, 120)]
    assert len(events.Tensors("settings/text_summary")) == 1
    assert len(runs(run)) == 3


def test_what_a_killed_process_left_unfinished_is_logged_once(tmp_path, monkeypatch):
    run = whole_search(tmp_path / "demo")
    tracker = TensorBoard(place(run))
    records = Records(run.folder)
    records.look()
    first, *_ = records.jobs()
    (search,) = records.searches.values()
    # killed in the midst of a job, and in the midst of a step
    with monkeypatch.context() as patch, pytest.raises(pytest.fail.Exception):
        patch.setattr("pathlib.Path.rename", lambda *args: pytest.fail("killed"))
        tracker.log_job(first, records.epochs(first))
    tracker.begin(search)
    writer = tracker._writer(search)
    writer.add_scalar("search/epochs", 2.0, 1)
    writer.flush()
    Logbook(Records(run.folder), TensorBoard(place(run))).catch_up()
    events = runs(run)["demo"]
    assert [value[0] for value in scalars(events, "search/epochs")] == [1, 2, 3]
    assert len(runs(run)) == 4


def test_searches_of_a_study_lie_side_by_side_whatever_they_are_called(tmp_path):
    changed = STUDY.model_dump() | {"methods": ["single:weight", {"name": "single:weight", "label": "single-weight"}]}
    run = RunFake(tmp_path / "study", type(STUDY).model_validate(changed))
    for method in ("single:weight", "single-weight"):
        run.ask(method, 0, 0, run.job(method=method, seed=0))
    track(run.folder, TENSORBOARD)
    folders = sorted(file.name for file in (run.folder.path / "tensorboard").iterdir())
    assert [name.rpartition("-")[0] for name in folders] == ["single-weight-packaged-movie-packaged-minilm-seed-0"] * 2
    assert folders[0] != folders[1]


def test_the_reader_that_finds_how_far_a_series_goes_sees_all_its_steps(tmp_path):
    run = RunFake(tmp_path / "demo")
    run.job()
    track(run.folder, TENSORBOARD)
    events = EventAccumulator(str(run.folder.path / "tensorboard" / "demo")).Reload()
    assert events.Scalars("search/jobs")[-1].step == 1

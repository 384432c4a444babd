"""Trackers by name: what is said of those that cannot be used, and where a run's logs go."""

from pathlib import Path

import pytest
from tracking_fakes import RunFake
from upath import UPath

from prunepeft_ray.errors import InputError
from prunepeft_ray.results import RunFolder
from prunepeft_ray.tracking import TRACKERS, Place, track, tracker, tracking


def test_these_trackers_are_known():
    assert list(TRACKERS) == ["tensorboard", "mlflow", "wandb"]


@pytest.mark.parametrize("found", [None, type("Folder", (), {"origin": None})], ids=["nothing", "a mere folder"])
@pytest.mark.parametrize(
    ("name", "title"), [("tensorboard", "TensorBoard"), ("mlflow", "MLflow"), ("wandb", "Weights & Biases")]
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name, title, found):
    monkeypatch.setattr(tracker, "find_spec", lambda package: found)
    message = f"tracker '{name}' needs {title}: pip install 'prunepeft-ray\\[{name}\\]'"
    with pytest.raises(InputError, match=message):
        track(RunFake(tmp_path / "demo").folder, [name])
    with pytest.raises(InputError, match=message), tracking(tmp_path / "x", [name], lambda event: None):
        pytest.fail("it began")


def test_an_unknown_tracker_is_refused_before_anything_begins(tmp_path):
    refused = pytest.raises(InputError, match="unknown tracker 'mlfow': did you mean 'mlflow'")
    with refused, tracking(tmp_path / "x", ["mlfow"], lambda event: None):
        pytest.fail("it began")


def test_mlflow_that_cannot_work_as_it_is_set_up_is_one_line(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///nowhere")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(InputError, match=r"tracker 'mlflow': MLFLOW_TRACKING_URI is not usable: .*maintenance mode"):
        tracker.check_tracker("mlflow")


def test_nobody_logged_in_at_wandb_is_one_line(monkeypatch):
    from prunepeft_ray.tracking import wandb as ours

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(ours.wandb, "login", lambda prompt: False)
    with pytest.raises(InputError, match="not logged in: run 'wandb login', or set WANDB_MODE=offline"):
        tracker.check_tracker("wandb")


def test_wandb_that_is_switched_off_is_one_line(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(InputError, match="WANDB_MODE=disabled turns it off"):
        tracker.check_tracker("wandb")


def test_a_run_has_one_identity_and_a_copy_of_its_settings_another(tmp_path):
    one, other = (RunFake(tmp_path / name).folder for name in ("one", "other"))
    assert one.run_id == other.run_id
    assert Place(one).identity == Place(RunFolder.open(one.path)).identity
    assert Place(one).identity != Place(other).identity


def test_logs_lie_in_the_run_or_for_a_bucket_in_a_local_folder(tmp_path):
    assert Place(RunFake(Path("demo")).folder).local == tmp_path / "demo"
    bucket = RunFake(UPath("memory://bucket/demo")).folder
    place = Place(bucket)
    assert place.local == tmp_path / "tracked" / f"demo-{place.identity}"
    bucket.path.fs.rm("/bucket", recursive=True)

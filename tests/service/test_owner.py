"""The first job that takes a folder has it."""

import pytest

from prunepeft_ray.errors import InputError
from prunepeft_ray.results import RunFolder
from prunepeft_ray.service.run_owner import RunOwner
from prunepeft_ray.storage.paths import open_path

ANN = RunOwner("demo-3f2a", "demo", "ann", "search", "2026-01-01T00:00:00+00:00", "budget: 1%\n")
BOB = RunOwner("demo-9c01", "demo", "bob", "search", "2026-01-01T00:00:01+00:00", "budget: 2%\n")


def test_the_first_has_the_folder(tmp_path):
    assert RunOwner.read(tmp_path) is None
    assert ANN.take(tmp_path) == ANN
    assert BOB.take(tmp_path) == ANN
    assert RunOwner.read(tmp_path) == ANN


def test_the_same_in_a_bucket(bucket):
    run = open_path(f"{bucket}/run")
    assert ANN.take(run) == ANN
    assert BOB.take(run) == ANN


def test_a_folder_that_only_has_an_owner_is_free_for_the_run(tmp_path):
    ANN.take(tmp_path)
    (tmp_path / "inputs").mkdir()
    RunFolder.check_free(tmp_path)


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "submission.json").write_text("{")
    with pytest.raises(InputError, match=r"submission.json cannot be read"):
        RunOwner.read(tmp_path)

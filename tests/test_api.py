"""The public API does what the README shows."""

import pytest

import prunepeft_ray
from prunepeft_ray import InputError


def test_every_public_name_is_there():
    for name in prunepeft_ray.__all__:
        assert getattr(prunepeft_ray, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        prunepeft_ray.serach  # noqa: B018


def test_wrong_settings_are_refused_from_python_too(tmp_path):
    with pytest.raises(InputError, match="above 0"):
        prunepeft_ray.search("packaged:minilm", "packaged:movie", "0%", output=tmp_path / "run")
    with pytest.raises(InputError, match="unknown key"):
        prunepeft_ray.search("packaged:minilm", "packaged:movie", 9, output=tmp_path / "run", settings=["a.b=1"])
    with pytest.raises(InputError, match="holds no run"):
        prunepeft_ray.resume(tmp_path / "run")
    with pytest.raises(InputError, match="study: 'tasks' is missing"):
        prunepeft_ray.compare({"methods": ["prunepeft"]}, output=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_files_that_a_study_in_python_names_are_looked_for_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = {
        "methods": [{"name": "toy", "options": {"start": "start.json"}}],
        "tasks": ["t"],
        "models": ["m"],
        "budget": 1,
    }
    with pytest.raises(InputError, match=r"^study: method 'toy': start: start.json cannot be read"):
        prunepeft_ray.compare(study, output=tmp_path / "run")
    (tmp_path / "start.json").write_text("{}")
    with pytest.raises(InputError, match="unknown method 'toy'"):
        prunepeft_ray.compare(study, output=tmp_path / "run")

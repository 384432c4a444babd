"""The public API does what the README shows."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import prunepeft_ray
from prunepeft_ray import InputError


def test_every_public_name_is_there():
    for name in prunepeft_ray.__all__:
        assert getattr(prunepeft_ray, name) is not None
    with pytest.raises(AttributeError, match="No prunepeft_ray attribute serach"):
        prunepeft_ray.serach  # noqa: B018


def test_importing_it_is_quick():
    code = "import sys, prunepeft_ray; print({'torch', 'ray', 'pandas', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_stubs_are_installed_with_the_package():
    packages = Path(prunepeft_ray.__file__).parent
    setup = tomllib.loads((packages.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    patterns = setup["package-data"]["prunepeft_ray"]
    stubs = set(packages.rglob("*.pyi"))
    assert stubs
    assert stubs <= {file for pattern in patterns for file in packages.glob(pattern)}


def test_wrong_settings_are_refused_from_python_too(tmp_path):
    with pytest.raises(InputError, match="above 0"):
        prunepeft_ray.search("packaged:minilm", "packaged:movie", "0%", output=tmp_path / "run")
    with pytest.raises(InputError, match="unknown key"):
        prunepeft_ray.search("packaged:minilm", "packaged:movie", 9, output=tmp_path / "run", settings=["a.b=1"])
    with pytest.raises(InputError, match="does not contain a run"):
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

"""What a spec needs of this machine travels with it, and nothing else does."""

from pathlib import Path

import pytest
import yaml

from prunepeft_ray.errors import InputError
from prunepeft_ray.service import package as packing
from prunepeft_ray.service.package import packed, read_spec

SEARCH = {"model": "packaged:minilm", "task": "packaged:movie", "budget": "1%"}
STUDY = {"models": ["packaged:minilm"], "tasks": ["packaged:movie"], "methods": ["prunepeft"], "budget": "1%"}


def write(tmp_path, data, name="spec.yaml"):
    file = tmp_path / name
    file.write_text(yaml.safe_dump(data))
    return file


def inputs(package):
    return sorted(path.name for path in (package.folder / "inputs").rglob("*") if path.is_file())


def test_a_spec_without_files_travels_alone(tmp_path):
    with packed(write(tmp_path, SEARCH)) as package:
        assert (package.kind, inputs(package)) == ("search", [])
        assert read_spec(package.folder / "spec.yaml") == package.spec
    assert not package.folder.exists()


def test_files_of_a_task_travel_under_names_of_their_own(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.csv").write_text(folder)
    task = {"name": str(tmp_path / "a" / "x.csv"), "dev": str(tmp_path / "b" / "x.csv"), "test": "/cluster/t.csv"}
    with packed(write(tmp_path, SEARCH | {"task": task})) as package:
        found = package.spec.task
        assert (found.name, found.dev, found.test) == ("inputs/x.csv", "inputs/x-2.csv", "/cluster/t.csv")
        assert [(package.folder / name).read_text() for name in (found.name, found.dev)] == ["a", "b"]


def test_a_file_that_several_tasks_share_travels_once(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("x")
    tasks = [{"name": str(file), "label": "a"}, {"name": str(tmp_path / "." / "y.csv"), "test": str(file)}]
    (tmp_path / "y.csv").write_text("y")
    with packed(write(tmp_path, STUDY | {"tasks": tasks})) as package:
        assert package.kind == "study"
        assert inputs(package) == ["x.csv", "y.csv"]
        assert package.spec.tasks[1].test == "inputs/x.csv"


def test_plugins_travel_and_modules_stay(tmp_path):
    (tmp_path / "mine.py").write_text("X = 1\n")
    (tmp_path / "pack" / "__pycache__").mkdir(parents=True)
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "__pycache__" / "old.pyc").write_text("")
    data = SEARCH | {"plugins": ["mine.py", "./pack", "installed_module", "/cluster/theirs.py"]}
    with packed(write(tmp_path, data)) as package:
        expected = ("inputs/mine.py", "inputs/pack", "installed_module", "/cluster/theirs.py")
        assert package.spec.plugins == expected
        assert inputs(package) == ["__init__.py", "mine.py"]


def test_models_do_not_travel_but_are_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    with packed(write(tmp_path, SEARCH | {"model": "./model"})) as package:
        assert package.spec.model == str(tmp_path / "model")
        assert inputs(package) == []
    with packed(write(tmp_path, SEARCH | {"model": "org/name"})) as package:
        assert package.spec.model == "org/name"


@pytest.mark.parametrize(
    ("data", "settings", "says"),
    [
        (SEARCH | {"task": "nope.csv"}, (), "nope.csv: no such file here"),
        (SEARCH | {"budgett": 1}, (), "did you mean 'budget'"),
        (STUDY, ("training.epochs=1",), "is a study; write its settings into the file"),
        (SEARCH, ("training.epoch=1",), "did you mean 'training.epochs'"),
    ],
)
def test_wrong_specs_are_told(tmp_path, monkeypatch, data, settings, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says), packed(write(tmp_path, data), settings):
        pass


def test_settings_change_a_search(tmp_path):
    with packed(write(tmp_path, SEARCH), ("training.epochs=7",)) as package:
        assert package.spec.training.epochs == 7


def test_links_that_lead_nowhere_stay(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / ".#x.py").symlink_to("/nowhere")
    with packed(write(tmp_path, SEARCH | {"plugins": ["./pack"]})) as package:
        assert inputs(package) == ["__init__.py"]


def test_too_much_is_refused_before_it_is_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MAX_BYTES", 2**20)
    file = tmp_path / "big.csv"
    with file.open("wb") as stream:
        stream.truncate(2**20 + 1)
    told = pytest.raises(InputError, match=r"big.csv: more than 1 MiB of files cannot be sent")
    with told, packed(write(tmp_path, SEARCH | {"task": str(file)})):
        pass


def test_a_task_that_is_registered_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sst2").write_text("x")
    with packed(write(tmp_path, SEARCH | {"task": "sst2"})) as package:
        assert package.spec.task.name == "sst2"

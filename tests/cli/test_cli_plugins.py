"""Plugins that came with a run's folder are code of whoever made it: named, and not imported without a word."""

import io
import shutil
import sys
import tarfile
from types import SimpleNamespace

import pytest
import yaml

from prunepeft_ray import api
from prunepeft_ray.cli.main import run
from prunepeft_ray.errors import InputError
from prunepeft_ray.plugins import load_named_plugins, load_run_plugins
from prunepeft_ray.service.unpacking import unpack

SEARCH = {"model": "/nowhere/model", "task": "packaged:movie", "budget": "1%"}
STUDY = {"models": ["/nowhere/model"], "tasks": ["packaged:movie"], "methods": ["prunepeft"], "budget": "1%"}


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNEPEFT_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    yield
    for name in ("came_along", "my_own"):
        sys.modules.pop(name, None)


@pytest.fixture
def ran(tmp_path):
    """A file that the plugin leaves when it is imported."""
    return tmp_path / "ran"


@pytest.fixture
def fetched(tmp_path, ran):
    """Makes a folder as fetch makes it, of an archive with a plugin in it."""

    def make(spec):
        out = io.BytesIO()
        files = {
            "spec.yaml": yaml.safe_dump(spec | {"plugins": ["./inputs/came_along.py"]}),
            "inputs/came_along.py": f"from pathlib import Path\nPath({str(ran)!r}).write_text('x')\n",
        }
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for name, text in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
        unpack(out.getvalue(), tmp_path / "runs/demo-3f2a", lambda name: True)
        return "runs/demo-3f2a"

    return make


@pytest.fixture(autouse=True)
def _adapter(monkeypatch):
    predictor = SimpleNamespace(
        config=SimpleNamespace(labels=("negative", "positive")),
        predict=lambda texts, texts2, tell: [SimpleNamespace(label="\x1b]0;X\x07", value=1.0) for _ in texts],
        evaluate=lambda examples, tell: {"accuracy": 1.0},
    )
    monkeypatch.setattr("prunepeft_ray.training.load_adapter", lambda folder, model: predictor)


@pytest.mark.parametrize("spec", [SEARCH, STUDY], ids=["search", "study"])
@pytest.mark.parametrize(
    "command",
    [
        ["resume"],
        ["evaluate"],
        ["evaluate", "--task", "packaged:movie"],
        ["predict", "--input", "a"],
        ["report"],
        ["report", "--json"],
        ["track", "--to", "tensorboard"],
    ],
    ids=" ".join,
)
def test_no_command_imports_a_plugin_that_came_along(capsys, fetched, ran, command, spec):
    code = run([command[0], fetched(spec), *command[1:]])
    said = "".join(capsys.readouterr())
    assert not ran.exists()
    assert "came_along" not in sys.modules
    assert "\x1b" not in said
    if command == ["resume"] or (command == ["evaluate"] and spec is SEARCH):
        assert code == 2
        assert "inputs/came_along.py" in said
        assert "--trust-plugins" in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "spec"), [("resume", SEARCH), ("resume", STUDY), ("evaluate", SEARCH)], ids=["search", "study", "use"]
)
def test_who_says_so_trusts_them_this_once(fetched, ran, command, spec):
    folder = fetched(spec)
    run([command, folder, "--trust-plugins"])
    assert ran.exists()
    ran.unlink()
    sys.modules.pop("came_along")
    assert run([command, folder]) == 2
    assert not ran.exists()


def test_python_asks_too(fetched, ran):
    folder = fetched(SEARCH)
    with pytest.raises(InputError, match="trust_plugins=True"):
        api.resume(folder)
    assert not ran.exists()
    with pytest.raises(InputError, match="/nowhere/model"):
        api.resume(folder, trust_plugins=True)
    assert ran.exists()


def test_plugins_that_were_used_here_need_no_word_until_they_change(tmp_path):
    (tmp_path / "my_own.py").write_text("VALUE = 1\n")
    mine = [str(tmp_path / "my_own.py")]
    with pytest.raises(InputError, match="have not been used on this machine"):
        load_run_plugins(mine, tmp_path, trust=False)
    load_named_plugins(mine)
    load_run_plugins(mine, tmp_path, trust=False)
    # the same file elsewhere is another
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "my_own.py", tmp_path / "other")
    with pytest.raises(InputError, match=r"other/my_own\.py"):
        load_run_plugins([str(tmp_path / "other/my_own.py")], tmp_path, trust=False)
    (tmp_path / "my_own.py").write_text("VALUE = 2\n")
    with pytest.raises(InputError, match="have changed since"):
        load_run_plugins(mine, tmp_path, trust=False)


def test_a_package_has_changed_when_any_module_of_it_has(tmp_path):
    package = tmp_path / "my_own"
    package.mkdir()
    (package / "__init__.py").write_text("")
    load_named_plugins([str(package)])
    (package / "notes.txt").write_text("x")
    load_run_plugins([str(package)], tmp_path, trust=False)
    (package / "more.py").write_text("")
    with pytest.raises(InputError, match="my_own"):
        load_run_plugins([str(package)], tmp_path, trust=False)


def test_a_module_that_is_installed_is_asked_for_by_its_name(tmp_path):
    with pytest.raises(InputError, match="colorsys"):
        load_run_plugins(["colorsys"], tmp_path, trust=False)
    load_named_plugins(["colorsys"])
    load_run_plugins(["colorsys"], tmp_path, trust=False)


def test_without_a_state_folder_the_plugins_of_a_named_spec_run_all_the_same(tmp_path):
    (tmp_path / "state").write_text("no folder")
    (tmp_path / "my_own.py").write_text("")
    load_named_plugins([str(tmp_path / "my_own.py")])
    with pytest.raises(InputError, match="--trust-plugins"):
        load_run_plugins([str(tmp_path / "my_own.py")], tmp_path, trust=False)

"""Code of the user's own: found, loaded once, and usable by name."""

import sys
from pathlib import Path

import pytest
import yaml
from studies import SMALL, study_here

from prunepeft_ray.analysis import compare_study
from prunepeft_ray.criteria import CRITERIA
from prunepeft_ray.errors import InputError
from prunepeft_ray.methods import METHODS
from prunepeft_ray.plugins import load_plugins
from prunepeft_ray.results import ResultsStore
from prunepeft_ray.study import load_study
from prunepeft_ray.tasks import TASKS

EXAMPLE = Path(__file__).parent.parent / "experiments" / "example-plugin.yaml"


@pytest.fixture(autouse=True)
def _restore():
    """Forget what plugins registered and imported."""
    registries = (CRITERIA, METHODS, TASKS)
    before, modules = [dict(registry._items) for registry in registries], set(sys.modules)
    yield
    for registry, items in zip(registries, before, strict=True):
        registry._items.clear()
        registry._items.update(items)
    for name in set(sys.modules) - modules:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(("/tmp", str(EXAMPLE.parent))):
            del sys.modules[name]


@pytest.fixture
def loads(monkeypatch):
    """What plugins note when they are run."""
    noted = []
    monkeypatch.setattr(sys, "noted_by_plugins", noted, raising=False)
    return noted


def note(text):
    return f"import sys\nsys.noted_by_plugins.append({text!r})\n"


def refusal(*plugins):
    with pytest.raises(InputError) as caught:
        load_plugins(map(str, plugins))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("plugins: ")
    return message


def test_a_file_is_loaded_once(tmp_path, loads):
    file = tmp_path / "my_plugin_file.py"
    file.write_text(note("file"))
    load_plugins([str(file), str(file)])
    load_plugins([str(file)])
    assert loads == ["file"]


def test_a_package_folder_is_loaded_with_what_it_imports_of_itself(tmp_path, loads):
    folder = tmp_path / "my_plugin_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("from my_plugin_package.inner import VALUE\nfrom . import other\n")
    (folder / "inner.py").write_text(note("inner") + "VALUE = 1\n")
    (folder / "other.py").write_text(note("other"))
    load_plugins([str(folder)])
    load_plugins([str(folder)])
    assert loads == ["inner", "other"]


def test_an_installed_module_is_loaded_by_its_name(tmp_path, monkeypatch, loads):
    (tmp_path / "installed_plugin").mkdir()
    (tmp_path / "installed_plugin" / "__init__.py").write_text("")
    (tmp_path / "installed_plugin" / "methods.py").write_text(note("module"))
    monkeypatch.syspath_prepend(str(tmp_path))
    load_plugins(["installed_plugin.methods"])
    load_plugins(["installed_plugin.methods"])
    assert loads == ["module"]


def test_plugins_are_loaded_in_their_order(tmp_path, loads):
    files = [tmp_path / f"plugin_{name}.py" for name in "cab"]
    for file in files:
        file.write_text(note(file.stem))
    load_plugins(map(str, files))
    assert loads == ["plugin_c", "plugin_a", "plugin_b"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = 1\nraise ValueError('two\\nlines')\n", "ValueError: two lines"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("import no_such_module_anywhere\n", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("from prunepeft_ray import Serach\n", "ImportError: "),
        (
            "from prunepeft_ray import CRITERIA\nCRITERIA.register('weight', None)\n",
            "ValueError: criterion 'weight' is already registered",
        ),
        (
            "from prunepeft_ray import METHODS\nMETHODS.register('prunepeft', None)\n",
            "ValueError: method 'prunepeft' is already registered",
        ),
    ],
    ids=["raises", "syntax", "missing module", "missing name", "taken criterion", "taken method"],
)
def test_an_error_in_a_plugin_is_one_line_that_names_it(tmp_path, code, says):
    file = tmp_path / "broken_plugin.py"
    file.write_text(code)
    message = refusal(file)
    assert f"plugins: '{file}' cannot be loaded: " in message
    assert says in message
    # a second try says the same, not that all is well
    assert refusal(file) == message


def test_a_plugin_may_say_itself_what_is_wrong(tmp_path):
    file = tmp_path / "choosy_plugin.py"
    file.write_text("from prunepeft_ray import InputError\nraise InputError('plugins: install foo first')\n")
    assert refusal(file) == "plugins: install foo first"


def test_what_is_not_there_is_named(tmp_path):
    assert refusal(tmp_path / "nope.py") == (
        f"plugins: {tmp_path / 'nope.py'} is not a Python file or package on this machine"
    )
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(tmp_path / "empty")
    message = refusal("no_such_module_anywhere")
    assert "'no_such_module_anywhere' cannot be loaded: ModuleNotFoundError" in message
    (tmp_path / "data.csv").write_text("a,b\n")
    assert refusal(tmp_path / "data.csv") == f"plugins: {tmp_path / 'data.csv'} is not a Python file"


def test_two_plugins_of_one_name_are_told_apart(tmp_path):
    files = [tmp_path / place / "same_name.py" for place in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text("")
    load_plugins([str(files[0])])
    assert refusal(files[1]).endswith("a module named 'same_name' already exists; rename the plugin")


def test_a_plugin_cannot_take_the_place_of_a_module(tmp_path):
    (tmp_path / "json.py").write_text("")
    assert "a module named 'json' already exists; rename the plugin" in refusal(tmp_path / "json.py")
    # not even of one that nobody has imported yet
    (tmp_path / "colorsys.py").write_text("")
    sys.modules.pop("colorsys", None)
    assert "a module named 'colorsys' already exists; rename the plugin" in refusal(tmp_path / "colorsys.py")


def test_the_example_works_by_name_in_a_study(tiny_bert, tmp_path):
    study = yaml.safe_load(EXAMPLE.read_text()) | SMALL | {"models": [tiny_bert]}
    study["plugins"] = [str(EXAMPLE.parent / name) for name in study["plugins"]]
    study["tasks"] = [{"name": "weather", "train_size": 40, "dev_size": 20, "test_size": 20}]
    study["budget"] = 2500
    study["pruning"] = {"criteria": ["spread"], "rounds": 2}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    folder, trained = study_here(load_study(tmp_path / "study.yaml"), tmp_path / "run")
    store = ResultsStore(folder.results)
    ends = store.read("searches").set_index("method")
    assert set(ends.status) == {"done"}
    assert set(ends.index) == {"top-down", "one-layer-more", "prunepeft"}
    assert (ends.parameters <= 2500).all()
    # the criterion judged slots, and the task was trained on
    assert "spread" in set(store.read("scores").criterion)
    assert set(store.read("jobs").task) == {"weather"}
    assert {work.label for work in trained if work.kind == "candidate"} >= {"the upper 2 layers", "the upper 3 layers"}
    rows = {row.method: row for row in compare_study(folder).rows}
    assert all(row.test.mean is not None for row in rows.values())


def test_a_plugin_of_a_study_is_named_relative_to_its_file(tmp_path, loads):
    (tmp_path / "beside_plugin.py").write_text(note("beside"))
    values = {"methods": ["a"], "tasks": ["t"], "models": ["m"], "budget": 1, "plugins": ["./beside_plugin.py"]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(values))
    load_plugins(load_study(tmp_path / "study.yaml").plugins)
    assert loads == ["beside"]

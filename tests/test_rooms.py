"""Imports go down the list of rooms and never up (docs: design, rooms)."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "prunepeft_ray"
ROOMS = (
    {"cli"},
    {"service"},
    {"report", "tracking"},
    {"execution"},
    {"analysis"},
    {"cluster"},
    {"results"},
    {"training"},
    {"methods"},
    {"pruning"},
    {"criteria"},
    {"modules"},
    {"backbones"},
    {"tasks"},
    {"jobs"},
    {"architecture"},
    {"study"},
    {"config"},
    {"plugins"},
    {"parsing"},
    {"events", "processes", "signals", "storage"},
    {"registry", "text"},
    {"ending", "waiting"},
    {"errors", "pareto", "seeds"},
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
FREE = {"__init__", "__main__", "api"}
"""Files of the package itself that may import anything, and that only the command line and outsiders import."""
LONGEST_FILE = 400
RAY_ROOMS = {"execution", "cluster"}
WITHOUT_TORCH = {"architecture", "pruning", "config", "jobs"}


def imported(file, package_root):
    """Every dotted name that a file imports, at whatever depth, with the line."""
    here = file.relative_to(package_root.parent).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.split(".")
        elif isinstance(node, ast.ImportFrom):
            base = list(here[: len(here) - node.level]) if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                yield node.lineno, [*base, alias.name]


def sources(package_root):
    """All files that import: modules, and the stubs from which packages load lazily what they export."""
    return sorted([*package_root.rglob("*.py"), *package_root.rglob("*.pyi")])


def violations(package_root):
    """Every import that breaks a rule, as text."""
    for file in sources(package_root):
        room = file.relative_to(package_root).with_suffix("").parts[0]
        where = file.relative_to(package_root.parent)
        if room not in LEVEL and room not in FREE:
            yield f"{where}: '{room}' is no room: it needs a place in the list"
            continue
        for line, name in imported(file, package_root):
            if name[0] == "ray" and room not in RAY_ROOMS:
                yield f"{where}:{line} imports ray, which belongs in execution and cluster"
            if name[0] == "torch" and room in WITHOUT_TORCH:
                yield f"{where}:{line} imports torch"
            if name[0] != package_root.name or room in FREE or room == "cli":
                continue
            target = name[1]
            if target not in LEVEL:
                yield f"{where}:{line} imports {target} from the top of the package"
            elif target != room and LEVEL[target] <= LEVEL[room]:
                yield f"{where}:{line} imports {target}, which is not below {room}"


def import_graph(package_root):
    """The modules of the package that each of its modules imports, at whatever depth."""
    graph, imports = {}, []
    for file in sources(package_root):
        parts = file.relative_to(package_root.parent).with_suffix("").parts
        module = parts[:-1] if parts[-1] == "__init__" else parts
        graph[module] = set()
        imports += [(module, tuple(name)) for _, name in imported(file, package_root)]
    for module, name in imports:
        graph[module] |= {name if name in graph else name[:-1]} & set(graph) - {module}
    return graph


def circle(package_root):
    """The modules of one circle of imports, or nothing."""
    try:
        TopologicalSorter(import_graph(package_root)).prepare()
    except CycleError as error:
        return [".".join(module) for module in error.args[1]]
    return []


PRIVATE_RAY = "cluster/private_ray"
PUBLIC_RAY = {
    "ray",
    "ray.autoscaler.sdk",
    "ray.cloudpickle",
    "ray.exceptions",
    "ray.job_submission",
    "ray.train",
    "ray.train.collective",
    "ray.train.torch",
    "ray.tune",
    "ray.tune.schedulers",
    "ray.tune.search",
    "ray.util.scheduling_strategies",
}
"""Modules of Ray that its documentation names."""
PRIVATE_TEXT = re.compile(r"ray[./]_\w+|ray\.\w*(_private|_internal)|__internal_|_temp_dir|_raylet")
OWN = {"self", "cls", "os", "sys"}


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def private_ray(file):
    """What a file names of Ray that its documentation does not, with the line."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    uses_ray = False
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        names = [name for name in names if name.split(".")[0] == "ray"]
        uses_ray |= bool(names)
        yield from (f"{node.lineno} imports {name}" for name in names if name not in PUBLIC_RAY)
        if names and isinstance(node, ast.ImportFrom):
            yield from (f"{node.lineno} imports {a.name}" for a in node.names if is_private(a.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and PRIVATE_TEXT.search(node.value):
            yield f"{node.lineno} names {node.value}"
        is_foreign = isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id in OWN)
        if uses_ray and is_foreign and is_private(node.attr):
            yield f"{node.lineno} uses {node.attr}"


def outside_private_ray(package_root):
    """Every use of Ray's insides outside the one place for them."""
    for file in sorted(package_root.rglob("*.py")):
        if PRIVATE_RAY not in file.as_posix():
            yield from (f"{file.relative_to(package_root.parent)}:{found}" for found in private_ray(file))


def foreign_imports(folder):
    """What the rivals import of the package beyond its public top level."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            yield from (f"{file.name}:{node.lineno} imports {n}" for n in names if n.startswith(f"{PACKAGE}."))


def test_imports_go_down_the_rooms():
    assert list(violations(ROOT / PACKAGE)) == []


def test_no_imports_go_in_a_circle():
    assert circle(ROOT / PACKAGE) == []


def test_a_planted_circle_is_found_though_it_hides_in_a_function(tmp_path):
    plant(tmp_path, "criteria/__init__.py", "")
    plant(tmp_path, "criteria/x.py", "from prunepeft_ray.criteria.y import f\n")
    plant(tmp_path, "criteria/y.py", "def f():\n    from prunepeft_ray.criteria import x\n")
    assert set(circle(tmp_path / PACKAGE)) == {"prunepeft_ray.criteria.x", "prunepeft_ray.criteria.y"}


def test_what_a_package_loads_lazily_counts_as_imported(tmp_path):
    plant(tmp_path, "criteria/__init__.pyi", "from .x import f\n")
    plant(tmp_path, "criteria/__init__.py", "")
    plant(tmp_path, "criteria/x.py", "from prunepeft_ray.criteria import f\n")
    assert set(circle(tmp_path / PACKAGE)) == {"prunepeft_ray.criteria", "prunepeft_ray.criteria.x"}


@pytest.mark.parametrize("folder", [PACKAGE, "baselines"])
def test_no_file_is_over_400_lines(folder):
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in (ROOT / folder).rglob("*.py")}
    assert {str(file.relative_to(ROOT)): n for file, n in lengths.items() if n > LONGEST_FILE} == {}


def test_every_room_of_the_list_is_a_folder_or_file():
    present = {path.stem for path in (ROOT / PACKAGE).iterdir() if path.is_dir() or path.suffix == ".py"}
    assert present >= set(LEVEL)


def test_rivals_use_the_public_api_alone():
    assert list(foreign_imports(ROOT / "baselines")) == []


def plant(tmp_path, file, text):
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return list(violations(tmp_path / PACKAGE))


@pytest.mark.parametrize(
    ("file", "text", "part"),
    [
        ("criteria/x.py", "from prunepeft_ray.pruning import Strategy\n", "imports pruning"),
        ("criteria/x.py", "import prunepeft_ray.training.loop\n", "imports training"),
        ("criteria/x.py", "def f():\n    from prunepeft_ray.results import ResultsStore\n", ":2 imports results"),
        (
            "modules/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from prunepeft_ray.cli import main\n",
            ":3 imports cli",
        ),
        ("modules/x.py", "from ..training import train\n", "imports training"),
        ("modules/deep/x.py", "from ...training.loop import train\n", "imports training"),
        ("modules/x.py", "from prunepeft_ray import training\n", "imports training"),
        ("modules/x.py", "from prunepeft_ray import load_adapter\n", "from the top of the package"),
        ("modules/x.py", "from prunepeft_ray.api import search\n", "imports api from the top"),
        ("seeds.py", "from prunepeft_ray.errors import InputError\n", "imports errors"),
        ("errors.py", "from prunepeft_ray.registry import Registry\n", "imports registry"),
        ("config.py", "from prunepeft_ray.architecture import Slot\n", "imports architecture"),
        ("training/x.py", "def f():\n    import ray\n", "imports ray"),
        ("cli/x.py", "from ray.train import report\n", "imports ray"),
        ("api.py", "import ray\n", "imports ray"),
        ("pruning/x.py", "import torch.nn as nn\n", "imports torch"),
        ("architecture/x.py", "from torch import Tensor\n", "imports torch"),
        ("jobs.py", "import torch\n", "imports torch"),
        ("newroom/x.py", "", "'newroom' is no room"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, text, part):
    (found,) = plant(tmp_path, file, text)
    assert part in found
    assert file in found


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("training/x.py", "import torch\nfrom prunepeft_ray.criteria.collector import Collector\n"),
        ("training/x.py", "from prunepeft_ray.training.group import Group\nfrom .loop import train\n"),
        ("execution/x.py", "import ray\nfrom prunepeft_ray.results import ResultsStore\n"),
        ("cli/x.py", "from prunepeft_ray.api import search\nfrom prunepeft_ray import load_adapter\n"),
        ("__init__.py", "from prunepeft_ray.cli import main\n"),
        ("api.py", "from prunepeft_ray.report import summarise\n"),
        ("tasks/x.py", "import array\nimport raylib\n"),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path, file, text):
    assert plant(tmp_path, file, text) == []


def test_what_is_private_of_ray_is_named_in_one_place():
    for folder in (PACKAGE, "baselines", "benchmarks"):
        assert list(outside_private_ray(ROOT / folder)) == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("from ray._private import services\n", ":1 imports ray._private"),
        ("def f():\n    from ray._raylet import Config\n", ":2 imports ray._raylet"),
        ("from ray.tune.execution import tune_controller\n", "imports ray.tune.execution"),
        ("from ray.train import _internal\n", "imports _internal"),
        ("import ray\nray.worker._global_node\n", ":2 uses _global_node"),
        ("from ray.tune import Tuner\nclass T(Tuner):\n    def f(self):\n        super()._fit()\n", "uses _fit"),
        ("RESOURCE = 'node:__internal_head__'\n", "names node:__internal_head__"),
        ("OPTIONS = {'_temp_dir': '/tmp'}\n", "names _temp_dir"),
    ],
)
def test_a_planted_use_of_ray_s_insides_is_found(tmp_path, text, part):
    plant(tmp_path, "execution/x.py", text)
    (found,) = outside_private_ray(tmp_path / PACKAGE)
    assert part in found
    plant(tmp_path, "cluster/private_ray/x.py", text)
    assert len(list(outside_private_ray(tmp_path / PACKAGE))) == 1


def test_a_rival_that_reaches_inside_is_found(tmp_path):
    (tmp_path / "rival.py").write_text(
        "from prunepeft_ray import TrainJob\nimport prunepeft_ray\nfrom prunepeft_ray.jobs import TrainJob\n"
    )
    assert list(foreign_imports(tmp_path)) == ["rival.py:3 imports prunepeft_ray.jobs"]

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from prunepeft_ray import MethodInfo

ENTRIES = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "entry-points"
]["prunepeft_ray.methods"]


@pytest.mark.parametrize("name", ENTRIES)
def test_every_method_named_in_pyproject_is_there(name):
    module, _, attribute = ENTRIES[name].partition(":")
    assert isinstance(getattr(import_module(module), attribute), MethodInfo)

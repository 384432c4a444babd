"""Code of the user's own: files and modules that register criteria, tasks or methods."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from prunepeft_ray.errors import InputError
from prunepeft_ray.paths import one_line


def load_plugins(plugins: Iterable[str]) -> None:
    """Import plugins that this process has not imported yet.

    Args:
        plugins: Paths of Python files or package folders, relative ones from the working folder; or names of modules.

    Raises:
        InputError: If one is missing, or an error occurs in it.
    """
    for plugin in plugins:
        try:
            if is_path(plugin):
                _load_path(Path(plugin).absolute())
            else:
                importlib.import_module(plugin)
        except InputError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {one_line(error)}"
            raise InputError(f"plugins: '{plugin}' cannot be loaded: {what}") from error


def is_path(plugin: str) -> bool:
    """Whether a plugin is a file or folder rather than the name of a module."""
    return plugin.endswith(".py") or "/" in plugin


def _origin(name: str) -> str | None:
    """Where a module of that name is, imported or not; None if there is none."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None) or "built-in"
    found = importlib.util.find_spec(name)
    return None if found is None else found.origin


def _load_path(path: Path) -> None:
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"plugins: there is no Python file or package {path} on this machine")
    name = path.stem
    if _origin(name) not in (None, str(file)):
        raise InputError(f"plugins: {path} cannot be loaded: a module named '{name}' is there already; rename it")
    if name in sys.modules:
        return
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise InputError(f"plugins: {path} is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise

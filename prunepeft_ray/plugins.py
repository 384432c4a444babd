"""User plugins: files and modules that register criteria, tasks or methods.

Users trust the plugins in a spec that they start. The spec in a run's folder may come from anyone, so its plugins are
imported only if this user has already used them on this machine with the same content, or explicitly trusts them.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.machinery import all_suffixes
from pathlib import Path

from prunepeft_ray.errors import InputError
from prunepeft_ray.storage.paths import user_state
from prunepeft_ray.text import error_line

MAX_NAMED = 5


def load_plugins(plugins: Iterable[str]) -> None:
    """Import plugins that this process has not imported yet.

    Args:
        plugins: Paths of Python files or package folders, relative to the working folder; or names of modules.

    Raises:
        InputError: If a plugin is missing, or raises an error.
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
            what = f"{type(error).__name__}: {error_line(error)}"
            raise InputError(f"plugins: '{plugin}' cannot be loaded: {what}") from error


def load_named_plugins(plugins: Iterable[str]) -> None:
    """Import plugins that the user has named, and remember them as trusted.

    Args:
        plugins: As in :func:`load_plugins`.

    Raises:
        InputError: If a plugin is missing, or raises an error.
    """
    plugins = tuple(plugins)
    load_plugins(plugins)
    for plugin in plugins:
        # without a writable state folder, a resume has to ask
        with suppress(OSError):
            record = _trust_record(plugin)
            record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            record.write_text(_content(plugin), encoding="ascii")


def load_run_plugins(plugins: Iterable[str], folder: Path, trust: bool) -> None:
    """Import plugins that the spec in a run's folder names, if they are trusted.

    Args:
        plugins: As in :func:`load_plugins`.
        folder: The run's folder, for error messages.
        trust: Whether the user explicitly trusts all of them.

    Raises:
        InputError: If a plugin is not trusted; none is imported in this case.
    """
    plugins = tuple(plugins)
    unknown = () if trust else tuple(plugin for plugin in plugins if not _is_known(plugin))
    if unknown:
        named = ", ".join([*unknown[:MAX_NAMED], *["..."] * (len(unknown) > MAX_NAMED)])
        raise InputError(
            f"{folder} names plugins that have not been used on this machine, or have changed since: "
            f"{named}; they run with your permissions: review them, then add --trust-plugins "
            "(in Python: trust_plugins=True)"
        )
    load_plugins(plugins)


def _trust_record(plugin: str) -> Path:
    """Return the file that records the digest of a trusted plugin's code."""
    name = str(Path(plugin).resolve()) if is_path(plugin) else plugin
    return user_state() / "plugins" / hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def _is_known(plugin: str) -> bool:
    try:
        return _trust_record(plugin).read_text(encoding="ascii") == _content(plugin)
    except (OSError, ValueError):
        return False


def _content(plugin: str) -> str:
    """Return a digest of a plugin's code; installed modules are identified by name only."""
    if not is_path(plugin):
        return "installed"
    path, digest = Path(plugin), hashlib.sha256()
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in found:
        if file.is_file() and file.name.endswith(tuple(all_suffixes())) and file.parent.name != "__pycache__":
            name, code = str(file.relative_to(path)), hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{name!r} {code}\n".encode())
    return digest.hexdigest()


def is_path(plugin: str) -> bool:
    """Whether a plugin is given as a path rather than as the name of a module."""
    return plugin.endswith(".py") or "/" in plugin


def _origin(name: str) -> str | None:
    """Return the location of a module, imported or not; None if there is no such module."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None) or "built-in"
    found = importlib.util.find_spec(name)
    return None if found is None else found.origin


def _load_path(path: Path) -> None:
    file = path / "__init__.py" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"plugins: {path} is not a Python file or package on this machine")
    name = path.stem
    if _origin(name) not in (None, str(file)):
        raise InputError(f"plugins: {path} cannot be loaded: a module named '{name}' already exists; rename the plugin")
    if name in sys.modules:
        return
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise InputError(f"plugins: {path} is not a Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise

"""Packing what a search or study needs from this machine: its spec, task files and plugins."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prunepeft_ray.config import SearchSpec, TaskConfig, dump_yaml, load_spec, read_yaml
from prunepeft_ray.errors import InputError
from prunepeft_ray.results.run import INPUTS, SPEC_FILE
from prunepeft_ray.service.gate import Kind
from prunepeft_ray.study import StudySpec, load_study
from prunepeft_ray.text import error_line

MAX_BYTES = 200 * 2**20
"""Well below Ray's limit of 500 MiB, since Ray keeps packages in the head node's memory."""


_NOT_SENT = shutil.ignore_patterns("__pycache__", ".git")


@dataclass(frozen=True)
class Package:
    """What is sent to the cluster.

    Args:
        folder: A folder of this machine with ``spec.yaml`` and ``inputs/``.
        kind: Whether it is a search or a study.
        spec: The spec, with the names of the packed files.
    """

    folder: Path
    kind: Kind
    spec: SearchSpec | StudySpec


@contextmanager
def packed(file: Path, settings: tuple[str, ...] = ()) -> Iterator[Package]:
    """Read a spec and pack the files of this machine that it needs; the package is deleted after the block.

    Task files and plugins that exist here are packed; the others must exist on the cluster. Models are never packed.

    Args:
        file: YAML file of a search or a study.
        settings: Further settings of a search, ``key=value``.

    Raises:
        InputError: If the spec is wrong, a file that it names does not exist, or the files are too large to send.
    """
    is_study = "methods" in read_yaml(file)
    if is_study and settings:
        raise InputError(f"--set {settings[0]}: {file} is a study; write its settings into the file")
    spec = load_study(file) if is_study else load_spec(file, None, settings)
    with TemporaryDirectory(prefix="prunepeft-") as folder:
        spec = _Packer(Path(folder) / INPUTS).pack(spec)
        (Path(folder) / SPEC_FILE).write_text(dump_yaml(spec), encoding="utf-8")
        yield Package(Path(folder), "study" if is_study else "search", spec)


def read_spec(file: Path) -> SearchSpec | StudySpec:
    """Read the spec of a search or of a study.

    Raises:
        InputError: If it is wrong.
    """
    return load_study(file) if "methods" in read_yaml(file) else load_spec(file)


@dataclass
class _Packer:
    """Copies files to a folder, under unique names."""

    folder: Path
    _names: dict[Path, str] = field(default_factory=dict)
    _bytes: int = 0

    def pack(self, spec: Any) -> Any:
        self.folder.mkdir()
        changes: dict[str, Any] = {"plugins": tuple(self._plugin(name) for name in spec.plugins)}
        if isinstance(spec, StudySpec):
            changes |= {"tasks": tuple(map(self._task, spec.tasks)), "models": tuple(map(_model, spec.models))}
        else:
            changes |= {"task": self._task(spec.task), "model": _model(spec.model)}
        return spec.model_copy(update=changes)

    def _task(self, task: TaskConfig) -> TaskConfig:
        from prunepeft_ray.tasks.loading import is_file

        if not is_file(task.name):
            return task
        files = {key: getattr(task, key) for key in ("name", "dev", "test")}
        found = {key: self._file(name, f"task {key}") for key, name in files.items() if name}
        return task.model_copy(update=found)

    def _file(self, name: str, what: str) -> str:
        path = Path(name).expanduser()
        if path.is_file():
            return self._copy(path.resolve())
        if not path.is_absolute():
            raise InputError(f"{what} {name}: no such file here; a file on the cluster needs its absolute path")
        return name

    def _plugin(self, name: str) -> str:
        path = Path(name)
        # otherwise it is the name of a module, or a path on the cluster
        return self._copy(path) if path.is_absolute() and path.exists() else name

    def _copy(self, path: Path) -> str:
        if path not in self._names:
            name = self._free_name(path)
            try:
                self._check_size(path)
                if path.is_dir():
                    shutil.copytree(path, self.folder / name, ignore=_NOT_SENT, ignore_dangling_symlinks=True)
                else:
                    shutil.copyfile(path, self.folder / name)
            except OSError as error:
                raise InputError(f"{path} cannot be read, so it cannot be sent: {error_line(error)}") from error
            self._names[path] = f"{INPUTS}/{name}"
        return self._names[path]

    def _free_name(self, path: Path) -> str:
        taken = {used.removeprefix(f"{INPUTS}/") for used in self._names.values()}
        name, number = path.name, 1
        while name in taken:
            number += 1
            name = f"{path.stem}-{number}{path.suffix}"
        return name

    def _check_size(self, path: Path) -> None:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        self._bytes += sum(file.stat().st_size for file in files)
        if self._bytes > MAX_BYTES:
            raise InputError(
                f"{path}: more than {MAX_BYTES // 2**20} MiB of files cannot be sent with a job; put them where all "
                "nodes of the cluster see them, and give the path there"
            )


def _model(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() and ("/" in name or path.suffix == ".gguf") else name


def code_modules() -> list[str]:
    """Folders of the installed ``prunepeft-ray``: its packages, and the metadata with the entry points of methods.

    Raises:
        InputError: If it is not installed here.
    """
    here = Path(__file__).parents[1]
    try:
        files = importlib.metadata.files("prunepeft-ray") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    records = {Path(str(file.locate())).parent for file in files if file.name == "entry_points.txt"}
    methods = importlib.util.find_spec("prunepeft_baselines")
    if not records or methods is None or methods.submodule_search_locations is None:
        raise InputError("prunepeft-ray is not installed here, so its code cannot be sent: 'pip install prunepeft-ray'")
    return [str(here), *methods.submodule_search_locations, str(records.pop())]

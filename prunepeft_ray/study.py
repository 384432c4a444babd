"""The settings of a study (``study.yaml``): methods, tasks, models and seeds to compare on equal terms."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, model_validator

from prunepeft_ray.config import (
    CandidateConfig,
    Config,
    ExecutionConfig,
    PositiveInt,
    RecipeConfig,
    SearchSpec,
    TaskConfig,
    beside,
    read_yaml,
    validate,
)
from prunepeft_ray.errors import InputError, quoted, shortened
from prunepeft_ray.parsing import parse_json, read_small
from prunepeft_ray.storage.paths import is_local, open_path
from prunepeft_ray.text import error_line

T = TypeVar("T")

AXES = ("methods", "tasks", "models", "seeds")
"""Keys by which a study can be extended later."""
FREE = ("execution", "plugins")
"""Keys that may change between runs; all others are the terms that all results of a study share."""
JSON_SUFFIX = ".json"
"""A method's option whose value has this suffix names a file."""


class JsonFile(Config):
    """A JSON file that is named by a method's option, with its content at the time the study was read.

    The content becomes part of the study, so that a resume does not depend on the file.
    """

    file: str = Field(description="the file, as named in the study")
    content: Any = Field(description="the content of the file")

    @model_validator(mode="before")
    @classmethod
    def _is_read(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError(f"expected the path of a file that ends in {JSON_SUFFIX}, got {quoted(data)}")
        return data

    def parse(self, read: Callable[[Any], T]) -> T:
        """Parse the content.

        Args:
            read: Parses the content.

        Raises:
            InputError: If ``read`` raises one; the name of the file is added.
        """
        try:
            return read(self.content)
        except InputError as error:
            raise InputError(f"{self.file}: {error}") from error


class MethodConfig(Config):
    """A method of a study."""

    name: str = Field(description="name of the method, such as prunepeft or single:weight; see 'prunepeft methods'")
    label: str = Field("", description="display name in the results; default: the name")
    evaluations: PositiveInt | None = Field(
        None, description="maximum number of candidates; default: limits.evaluations"
    )
    concurrency: PositiveInt | None = Field(
        None, description="maximum number of the method's jobs that run at once; default: no limit"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="settings specific to the method")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        """Accept ``random-search`` for ``{name: random-search}``, and label a method by its name."""
        data = {"name": data} if isinstance(data, str) else data
        if isinstance(data, dict) and not data.get("label") and isinstance(data.get("name"), str):
            data = data | {"label": data["name"]}
        return data


class LimitsConfig(Config):
    """Limits on the cost of a search; the final retraining does not count."""

    evaluations: PositiveInt = Field(20, description="maximum number of candidates that a method may evaluate")
    epochs: float | None = Field(None, gt=0, description="maximum number of passes over the training split per search")
    seconds: float | None = Field(None, gt=0, description="maximum number of device-seconds per search")


class StudyExecutionConfig(ExecutionConfig):
    """Resources of a job, and fault tolerance; none of it changes the outcome of a study."""

    cpus: float = Field(1.0, gt=0, description="number of CPUs that Ray reserves for each worker of a job")
    gpus: float | None = Field(
        None, ge=0, description="number of GPUs per worker, possibly fractional; default: 1 if there are any"
    )
    workers: PositiveInt = Field(1, description="number of data-parallel workers per job")


class _Axes(Config):
    """What to compare; a separate base class, so that these keys come first."""

    methods: tuple[MethodConfig, ...] = Field(min_length=1, description="the methods to compare")
    tasks: tuple[TaskConfig, ...] = Field(min_length=1, description="the tasks")
    models: tuple[str, ...] = Field(min_length=1, description="the backbones")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="seeds of both searches and retrainings")


class StudySpec(RecipeConfig, _Axes):
    """The complete settings of a study."""

    limits: LimitsConfig = LimitsConfig()
    candidate: CandidateConfig = CandidateConfig()
    execution: StudyExecutionConfig = StudyExecutionConfig()

    @model_validator(mode="before")
    @classmethod
    def _short_tasks(cls, data: Any) -> Any:
        """Accept ``sst2`` for ``{name: sst2}``."""
        if isinstance(data, dict) and isinstance(data.get("tasks"), list | tuple):
            tasks = [{"name": task} if isinstance(task, str) else task for task in data["tasks"]]
            data = data | {"tasks": tasks}
        return data

    @model_validator(mode="after")
    def _all_are_distinct(self) -> StudySpec:
        named = {
            "methods": [method.label for method in self.methods],
            "tasks": [task.name for task in self.tasks],
            "models": self.models,
            "seeds": self.seeds,
        }
        for key, names in named.items():
            if twice := [name for name, count in Counter(names).items() if count > 1]:
                hint = "; give one of them a label" if key == "methods" else ""
                raise ValueError(f"{key}: {quoted(twice[0])} occurs twice{hint}")
        return self

    @property
    def id(self) -> str:
        """A digest of the terms, 12 hexadecimal digits; extending an axis does not change it."""
        terms = self.model_dump(mode="json", exclude={*AXES, *FREE})
        return hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()[:12]

    def cells(self) -> Iterator[Cell]:
        """Yield the searches of the study, in the order in which they are started."""
        for seed in self.seeds:
            for model in self.models:
                for task in self.tasks:
                    for method in self.methods:
                        yield Cell(method, task, model, seed)

    def search_spec(self, cell: Cell) -> SearchSpec:
        """Return the settings of a search, as used by ``prunepeft search``."""
        shared = {name: getattr(self, name) for name in RecipeConfig.model_fields}
        return SearchSpec(model=cell.model, task=cell.task, seed=cell.seed, execution=self.execution, **shared)

    def check_extends(self, before: StudySpec, where: str) -> None:
        """Check that this is an earlier study, possibly with additional methods, tasks, models or seeds.

        Args:
            before: The earlier study.
            where: Its folder, for error messages.

        Raises:
            InputError: If the terms differ, or part of the earlier study is missing or has changed.
        """
        ours, theirs = self._shared(), before._shared()
        for axis in AXES:
            if gone := [name for name in theirs[axis] if name not in ours[axis]]:
                raise _different(where, f"{axis}: {quoted(gone[0])} is missing here")
            # additions are allowed
            ours[axis] = {name: ours[axis][name] for name in theirs[axis]}
        if difference := _first_difference("", theirs, ours):
            raise _different(where, difference)

    def _shared(self) -> dict[str, Any]:
        """All settings that existing results of the study depend on, with the items of the axes by name."""
        plain = self.model_dump(mode="json", exclude={*FREE})
        return plain | {
            "methods": {method.pop("label"): _without(method, "concurrency") for method in plain["methods"]},
            "tasks": {task["name"]: task for task in plain["tasks"]},
            **{axis: dict.fromkeys(plain[axis]) for axis in ("models", "seeds")},
        }


@dataclass(frozen=True)
class Cell:
    """One search of a study.

    Args:
        method: The method.
        task: The task.
        model: The backbone, as the user named it.
        seed: The seed of the search.
    """

    method: MethodConfig
    task: TaskConfig
    model: str
    seed: int

    @property
    def title(self) -> str:
        """Display name of the search."""
        return f"{self.method.label}, {self.task.name}, seed {self.seed}"


def load_study(file: Path) -> StudySpec:
    """Read a study from a YAML file; paths of plugins and of methods' JSON files are relative to it.

    Raises:
        InputError: If a file cannot be read, or a key or value is wrong.
    """
    return read_files(validate(StudySpec, read_yaml(file), str(file)), file)


def read_files(spec: StudySpec, file: Path) -> StudySpec:
    """Resolve the files that a study names, and include the content of JSON files in it.

    Args:
        spec: The study.
        file: The file that names them, which paths are relative to.

    Raises:
        InputError: If a JSON file cannot be read.
    """
    methods = tuple(_with_content(method, file) for method in spec.methods)
    return spec.model_copy(update={"plugins": beside(file, spec.plugins), "methods": methods})


def _with_content(method: MethodConfig, file: Path) -> MethodConfig:
    named = {k: v for k, v in method.options.items() if isinstance(v, str) and v.endswith(JSON_SUFFIX)}
    where = f"{file}: method '{method.label}'"
    read = {key: {"file": name, "content": _read_json(name, file, f"{where}: {key}")} for key, name in named.items()}
    return method.model_copy(update={"options": method.options | read})


def _read_json(name: str, file: Path, where: str) -> Any:
    path = open_path(name)
    if is_local(path) and not path.is_absolute():
        path = file.parent / name
    try:
        return parse_json(read_small(path))
    except OSError as error:
        raise InputError(f"{where}: {path} cannot be read: {error_line(error)}") from error
    except ValueError as error:
        raise InputError(f"{where}: {path} is not valid JSON: {error_line(error)}") from error


def _different(where: str, difference: str) -> InputError:
    return InputError(
        f"{where} contains a different study ({difference}): choose another folder with --output, or only add methods, "
        "tasks, models or seeds"
    )


def _without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != key}


def _first_difference(key: str, before: Any, now: Any) -> str | None:
    """Describe the first difference between two values, by the path of its key."""
    if before == now:
        return None
    if isinstance(before, dict) and isinstance(now, dict):
        inner = next(name for name in {**before, **now} if before.get(name) != now.get(name))
        return _first_difference(f"{key}.{inner}" if key else inner, before.get(inner), now.get(inner))
    return f"{key}: {_short(before)} there, {_short(now)} here"


def _short(value: Any) -> str:
    """Format a value, which may be as long as a file, in a few words."""
    return shortened(quoted(value), 60)

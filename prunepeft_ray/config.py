"""The settings of a search (``search.yaml``), as typed and validated models.

Every key can be set in YAML or with ``--set a.b=value``. Defaults follow the paper (arXiv 2506.07587) unless the
description of the key says otherwise.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prunepeft_ray.errors import MAX_QUOTE, InputError, quoted, shortened
from prunepeft_ray.parsing import parse_yaml, read_small
from prunepeft_ray.plugins import is_path
from prunepeft_ray.storage.paths import is_local
from prunepeft_ray.text import error_line, one_line

PAPER_CRITERIA = ("weight", "zeros", "threshold", "activation", "sensitivity", "gradient")

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """Base of all settings: immutable; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=Config)


class TaskConfig(Config):
    """The task, and the amount of data to use."""

    name: str = Field(description="GLUE task, packaged:<name>, or a CSV, JSONL or Parquet file")
    text: str | None = Field(None, description="column of the (first) text; local files only")
    text2: str | None = Field(None, description="column of the second text of a pair; local files only")
    label: str | None = Field(None, description="column of the label; local files only")
    dev: str | None = Field(None, description="file of the dev split; default: taken from the training file")
    test: str | None = Field(None, description="file of the test split; default: taken from the training file")
    encoding: str | None = Field(None, description="encoding of local text files; default: detected per file")
    separator: str | None = Field(
        None, description="character between columns of CSV and TSV files, or tab; default: detected per file"
    )
    regression: bool | None = Field(None, description="labels are numbers to predict; default: inferred from them")
    metric: str | None = Field(None, description="the primary metric; default: the task's own")
    train_size: PositiveInt | None = Field(None, description="use this many training examples, stratified")
    dev_size: PositiveInt | None = Field(None, description="use this many dev examples, stratified")
    test_size: PositiveInt | None = Field(None, description="use this many test examples, stratified")
    seed: int = Field(0, description="seed of splits and subsamples; independent of the run's seed")


class SpaceConfig(Config):
    """The slots of the supernet, and the modules that fill them (paper, Tables 2 and 3)."""

    kinds: tuple[Literal["PA", "PF", "PT", "SA"], ...] = Field(
        ("PA", "SA"),
        min_length=1,
        description="slot kinds: PA, query and value; PF, parallel to the FFN; PT, prefix; SA, serial adapter",
    )
    parallel: str = Field(
        "lora", description="module in PA slots, on query and value: lora, dora, or a registered module type"
    )
    serial: str = Field(
        "pfeiffer",
        description="module in SA slots: pfeiffer, an adapter after the FFN; houlsby, after attention and FFN; or a "
        "registered module type",
    )
    rank: PositiveInt | tuple[PositiveInt, ...] = Field(32, description="LoRA rank, for all layers or one per layer")
    bottleneck: PositiveInt | tuple[PositiveInt, ...] = Field(
        128, description="adapter bottleneck, for all layers or one per layer"
    )
    ffn_bottleneck: PositiveInt | tuple[PositiveInt, ...] = Field(
        128, description="bottleneck of the adapter parallel to the FFN (PF slots), for all layers or one per layer"
    )
    prefix: PositiveInt | tuple[PositiveInt, ...] = Field(
        30, description="prefix vectors of keys and values (PT slots), for all layers or one per layer"
    )

    @model_validator(mode="after")
    def _kinds_are_distinct(self) -> SpaceConfig:
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError("kinds must not repeat")
        return self

    def module(self, kind: str) -> tuple[str, str]:
        """Return the module type that fills slots of a kind, and the name of the setting for its size."""
        return {
            "PA": (self.parallel, "rank"),
            "PF": ("parallel", "ffn_bottleneck"),
            "PT": ("prefix", "prefix"),
            "SA": (self.serial, "bottleneck"),
        }[kind]


class ModulesConfig(Config):
    """Initialisation and scaling of modules."""

    init: Literal["paper", "default"] = Field(
        "default",
        description="paper: both projections normal (Eqs. 4-5); default: each module's own, the identity except for PT",
    )
    lora_alpha: float | None = Field(None, gt=0, description="LoRA alpha; default: the rank, for a scaling of 1")
    lora_dropout: Share = Field(0.1, description="dropout on the input of LoRA and DoRA")
    parallel_scale: float = Field(4.0, gt=0, description="factor on the update of an adapter parallel to the FFN")


class LearningRates(Config):
    """Peak learning rates."""

    FT: float = Field(5e-5, gt=0, description="the backbone itself, in full fine-tuning")
    PA: float = Field(5e-4, gt=0, description="LoRA and DoRA modules")
    PF: float = Field(5e-4, gt=0, description="adapters parallel to the FFN")
    PT: float = Field(5e-4, gt=0, description="prefixes")
    SA: float = Field(5e-4, gt=0, description="adapters")
    head: float = Field(1e-3, gt=0, description="the task head")


class TrainingConfig(Config):
    """The recipe that all jobs share, and the length of the final retraining."""

    epochs: PositiveInt = Field(20, description="maximum number of epochs of the final retraining")
    patience: PositiveInt | None = Field(5, description="epochs without improvement after which retraining stops")
    batch_size: PositiveInt = Field(16, description="examples per optimiser step")
    micro_batches: PositiveInt | None = Field(
        None,
        description="parts that a batch is split into, for gradient accumulation and data-parallel workers. Default: "
        "on CPUs, where results depend on it, as many as a run is created with: of a search at least 2, of a study "
        "execution.workers; on GPUs 1, and at least one per worker",
    )
    learning_rates: LearningRates = LearningRates()
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_share: Share = Field(0.06, description="fraction of all steps in which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float | None = Field(1.0, gt=0, description="maximum norm to which gradients are clipped")
    max_length: PositiveInt = Field(128, description="maximum number of tokens per example")
    eval_batch_size: PositiveInt = 64
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto: bf16 on GPU, fp32 on CPU")
    frozen_dropout: bool = Field(True, description="false: no dropout below the lowest filled slot; output cached")


class WarmupConfig(Config):
    """Learning which criterion suits which partition (paper, Section 3.3)."""

    select: str = Field("frequency", description="how a criterion is chosen: see 'prunepeft methods'")
    train_size: PositiveInt = Field(100, description="size of the subset d that the warm-up trains on")
    turns: PositiveInt = Field(3, description="number of turns per criterion")
    epochs: PositiveInt = Field(3, description="epochs per turn")
    remove: PositiveInt = Field(3, description="slots removed per turn")
    holdout: float = Field(0.3, gt=0, lt=1, description="fraction of d on which effectiveness measures the loss")


class PruningConfig(Config):
    """The pruning rounds (paper, Algorithm 1)."""

    criteria: tuple[str, ...] = Field(PAPER_CRITERIA, min_length=1, description="the criteria to combine")
    profile: str = Field("averaged", description="how p(m) follows from scores: see 'prunepeft methods'")
    compare: Literal["within-kind", "raw"] = Field(
        "within-kind",
        description="how slots of different kinds are compared: by scores standardised within each kind, or raw scores",
    )
    blocks: Literal["spindle", "reference", "none"] | tuple[float, ...] = Field(
        "spindle",
        description="how layers form blocks: 1/6,1/3,1/3,1/6; the released code's edges; one block; custom edges",
    )
    rounds: PositiveInt = 3
    remove: PositiveInt | None = Field(None, description="slots per round, k; default: from rounds and budget")
    round_epochs: PositiveInt = 1
    train_size: PositiveInt | None = Field(
        None, description="train rounds on a subset of this size; default: the whole training split"
    )
    evaluate_rounds: bool = Field(
        False, description="evaluate on dev in every round; no decision depends on it, only the report shows it"
    )
    dynamic: bool = Field(False, description="relearn the strategy before every round")
    threshold: float | None = Field(
        None, gt=0, description="fixed t of the threshold criterion; default: a quantile over all slots of a kind"
    )
    threshold_quantile: float = Field(0.1, gt=0, lt=1)


class ExecutionConfig(Config):
    """Fault tolerance and caching; none of it changes the outcome of a search."""

    checkpoint_seconds: float = Field(
        60.0, gt=0, description="seconds between checkpoints of a running job; it also saves one after every epoch"
    )
    max_failures: int = Field(
        3, ge=0, description="maximum number of consecutive restarts after failures without progress in between"
    )
    hang_seconds: float = Field(
        600.0, gt=0, description="a worker that makes no step for this long is killed and counts as lost"
    )
    frozen_cache_gb: float = Field(8.0, ge=0, description="maximum size of the cache of frozen layers' output; 0: none")


class CandidateConfig(Config):
    """How a study evaluates candidate architectures."""

    epochs: PositiveInt = Field(1, description="epochs for which a candidate is trained")
    train_size: PositiveInt | None = Field(
        None, description="train candidates on a stratified subset of this size; default: the whole training split"
    )


class RecipeConfig(Config):
    """The settings that the specs of searches and studies have in common."""

    budget: str = Field(description="maximum number of PEFT parameters: 300000, 1.5M, or 1% of the backbone")
    space: SpaceConfig = SpaceConfig()
    modules: ModulesConfig = ModulesConfig()
    training: TrainingConfig = TrainingConfig()
    warmup: WarmupConfig = WarmupConfig()
    pruning: PruningConfig = PruningConfig()
    plugins: tuple[str, ...] = Field(
        (), description="user plugins: Python files or modules with criteria, tasks or methods; loaded first"
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_budget(cls, data: Any) -> Any:
        """Accept a bare number as the budget."""
        if isinstance(data, dict) and isinstance(data.get("budget"), int | float):
            is_number = not isinstance(data["budget"], bool)
            data = data | {"budget": str(data["budget"])} if is_number else data
        return data


class _Subject(Config):
    """What to search; a separate base class, so that these keys come first."""

    model: str = Field(description="Hub id, local folder, GGUF file, packaged:minilm or packaged:smollm2")
    task: TaskConfig
    seed: int = 0


class SearchSpec(RecipeConfig, _Subject):
    """The complete settings of a search."""

    execution: ExecutionConfig = ExecutionConfig()

    @model_validator(mode="before")
    @classmethod
    def _bare_task(cls, data: Any) -> Any:
        """Accept ``task: sst2`` for ``task: {name: sst2}``."""
        return _long_form(data) if isinstance(data, dict) else data


def load_spec(
    file: Path | None, values: dict[str, Any] | None = None, settings: tuple[str, ...] | list[str] = ()
) -> SearchSpec:
    """Build a spec from a YAML file, values and ``key=value`` settings; later ones take precedence.

    Args:
        file: A YAML file, or None.
        values: Nested values, such as command-line options; None values are ignored.
        settings: Strings such as ``"training.epochs=3"``; the value is parsed as YAML.

    Raises:
        InputError: If the file cannot be read, or a key or value is wrong.
    """
    data: dict[str, Any] = _long_form(read_yaml(file)) if file else {}
    _merge(data, _long_form(_without_none(values or {})))
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {one_line(setting)}: expected key=value, such as training.epochs=3")
        _merge(data, _long_form(_nested(key.strip(), _read_value(setting, value))))
    spec = validate(SearchSpec, data, str(file) if file else "search")
    return spec.model_copy(update={"plugins": beside(file or Path("search.yaml"), spec.plugins)})


def beside(file: Path, plugins: tuple[str, ...]) -> tuple[str, ...]:
    """Resolve relative plugin paths against the file that names them, unless that file is in a bucket."""
    if not is_local(file):
        return plugins
    return tuple(str((file.parent / name).resolve()) if _is_relative(name) else name for name in plugins)


def _is_relative(plugin: str) -> bool:
    return is_path(plugin) and not Path(plugin).is_absolute()


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a YAML mapping within the bounds of :mod:`prunepeft_ray.parsing`.

    Raises:
        InputError: If the file is missing, too large, nested too deeply, not valid YAML or not a mapping.
    """
    try:
        data = parse_yaml(read_small(file).decode())
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error_line(error)}") from error
    except ValueError as error:
        raise InputError(f"{file}: not valid YAML: {error_line(error)}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise InputError(f"{file}: expected a mapping of keys to values, got a {type(data).__name__}")
    return data


def validate(kind: type[C], data: dict[str, Any], where: str) -> C:
    """Validate plain data as a config model.

    Raises:
        InputError: If a key or value is wrong; one line names the first problem and, for an unknown key, the closest
            match.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{where}: {one_line(_first_problem(kind, error), 300)}") from error


def _first_problem(kind: type[Config], error: ValidationError) -> str:
    problem = error.errors()[0]
    # pydantic adds the names of union members to the path, which mean nothing to users
    path = [str(part) for part in problem["loc"] if not str(part).startswith(("literal[", "tuple[", "constrained-"))]
    key = shortened(".".join(path), MAX_QUOTE)
    if problem["type"] == "extra_forbidden":
        within, known = _place(kind, path)
        near = difflib.get_close_matches(shortened(within, MAX_QUOTE), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
        return f"unknown key '{key}'; {hint}"
    if problem["type"] == "missing":
        return f"'{key}' is missing"
    message = problem["msg"].removeprefix("Value error, ")
    where = f"{key}: " if key else ""
    # validators of whole mappings name the wrong value themselves
    got = "" if problem["type"] == "value_error" else f", got {quoted(problem['input'])}"
    return f"{where}{message[0].lower()}{message[1:]}{got}"


def _place(kind: type[Config], path: list[str]) -> tuple[str, list[str]]:
    """Return a key relative to its item if it is in a list, and the keys that are known there."""
    if len(path) > 2 and path[1].isdigit():
        return ".".join(path[2:]), all_keys(get_args(kind.model_fields[path[0]].annotation)[0])
    return ".".join(path), all_keys(kind)


def all_keys(kind: type[Config], prefix: str = "") -> list[str]:
    """Return all dotted keys of a config model."""
    keys: list[str] = []
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Config):
            keys += all_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def dump_yaml(config: Config) -> str:
    """Write a config as YAML that ``load_spec`` reads back to the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_value(setting: str, value: str) -> Any:
    try:
        parsed = parse_yaml(value)
    except ValueError as error:
        raise InputError(f"--set {one_line(setting)}: the value is not valid YAML: {error}") from error
    if isinstance(parsed, str):
        # YAML 1.1 reads 1e-3 as a string, because it has no dot
        try:
            return float(parsed)
        except ValueError:
            return parsed
    return parsed


def _long_form(data: dict[str, Any]) -> dict[str, Any]:
    """Expand ``task: sst2`` to ``task: {name: sst2}``, so that both forms can be merged."""
    return data | {"task": {"name": data["task"]}} if isinstance(data.get("task"), str) else data


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    result: dict[str, Any] = value
    return result


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    cleaned = {k: _without_none(v) if isinstance(v, dict) else v for k, v in values.items()}
    return {k: v for k, v in cleaned.items() if v is not None and v != {}}

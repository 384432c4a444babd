"""Loading of tasks by name or file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError, unknown
from prunepeft_ray.tasks.base import TASKS, Split, TaskData, Tell, log_line
from prunepeft_ray.tasks.files import SUFFIXES, load_files
from prunepeft_ray.tasks.metrics import choose_metrics
from prunepeft_ray.tasks.splits import stratified_subset

_FILE_ONLY = ("text", "text2", "label", "dev", "test", "encoding", "separator", "regression")


def load_task(config: TaskConfig, tell: Tell = log_line) -> TaskData:
    """Load a task: a GLUE name, ``packaged:<name>``, or the path of a local file.

    Args:
        config: Name, columns, files, metric, and sizes of stratified subsamples.
        tell: Callback that receives lines on what was inferred from local files, and which of their rows were left out.

    Raises:
        InputError: If the name, a file, a column, a label, the metric or a size is wrong.
        RunError: If the data cannot be obtained, such as GLUE without network access.
    """
    if is_file(config.name):
        task = load_files(config, tell)
    else:
        name = registered_name(config.name)
        _reject_file_options(config)
        task = replace(TASKS[name].load(config.model_copy(update={"name": name})), name=config.name)
    metrics, metric = choose_metrics(config.metric, task.metrics, task.regression)
    return replace(
        task,
        train=_subset(task.train, config.train_size, "train", config.seed),
        dev=_subset(task.dev, config.dev_size, "dev", config.seed),
        test=_subset(task.test, config.test_size, "test", config.seed),
        further_tests={
            name: _subset(split, config.test_size, name, config.seed) for name, split in task.further_tests.items()
        },
        metrics=metrics,
        metric=metric,
    )


def task_names() -> list[str]:
    """Return the names of all registered tasks, in the order of registration."""
    return list(TASKS)


def is_file(name: str) -> bool:
    """Whether a task's name refers to a local file; a registered name never does."""
    if _canonical(name) in TASKS:
        return False
    path = Path(name)
    return "/" in name or "\\" in name or path.suffix.lower() in SUFFIXES or path.is_file()


def registered_name(name: str) -> str:
    """Return the name under which a task is registered, ignoring case; ``sst-2`` is ``sst2``.

    Raises:
        InputError: If there is no such task.
    """
    canonical = _canonical(name)
    if canonical not in TASKS:
        known = [*TASKS, "a CSV, TSV, JSONL, JSON or Parquet file"]
        raise unknown("task", name, known)
    return canonical


def _canonical(name: str) -> str:
    lower = name.strip().lower()
    return lower if lower in TASKS else lower.replace("-", "")


def _reject_file_options(config: TaskConfig) -> None:
    given = [key for key in _FILE_ONLY if getattr(config, key) is not None]
    if given:
        raise InputError(f"task.{given[0]} is for local files only; omit it for task '{config.name}'")


def _subset(split: Split, size: int | None, name: str, seed: int) -> Split:
    if size is None:
        return split
    if size > len(split):
        key = name if name in ("train", "dev") else "test"
        raise InputError(f"task.{key}_size: {size} examples requested, but the {name} split has {len(split)}")
    return split.take(stratified_subset(split.labels, size, seed))

"""Searching from Python, as from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prunepeft_ray.config import load_spec, validate
from prunepeft_ray.execution import Emit, Watch, resume_search, resume_study, start_search, start_study
from prunepeft_ray.paths import open_path
from prunepeft_ray.results import RunFolder
from prunepeft_ray.study import StudySpec, load_study, read_files


def search(
    model: str | None = None,
    task: str | dict[str, Any] | None = None,
    budget: str | int | None = None,
    *,
    output: str | Path,
    config: str | Path | None = None,
    settings: tuple[str, ...] | list[str] = (),
    seed: int | None = None,
    workers: int | None = None,
    address: str | None = None,
    emit: Emit | None = None,
) -> RunFolder:
    """Search the best PEFT architecture for a model, a task and a budget.

    Args:
        model: Hub id, local folder, GGUF file or ``packaged:NAME``.
        task: Name or file of the task, or a mapping of its settings.
        budget: Number of parameters, or a percentage of the backbone such as ``"1%"``.
        output: The run's folder, a path or a URL such as ``s3://bucket/run``; must not hold anything yet.
        config: YAML file with any of the settings.
        settings: Further settings, such as ``"training.epochs=3"``.
        seed: Seed of everything random in the search.
        workers: Workers; default: every GPU, or 2 on a CPU.
        address: Ray cluster to run on; default: one on this machine.
        emit: Told the news.

    Returns:
        The run's folder; give it to :func:`prunepeft_ray.summarise`, and its path to ``load_adapter``.

    Raises:
        InputError: If anything in the settings is wrong, or the folder is not free.
        RunError: If the search failed.
    """
    values = {"model": model, "task": task, "budget": None if budget is None else str(budget), "seed": seed}
    spec = load_spec(Path(config) if config else None, values, settings)
    return start_search(spec, open_path(output), emit or _ignore, workers, address)


def compare(
    study: str | Path | dict[str, Any],
    *,
    output: str | Path,
    address: str | None = None,
    emit: Emit | None = None,
    watch: Watch | None = None,
) -> RunFolder:
    """Compare search methods on equal terms; a study that is there already goes on with what is missing.

    Args:
        study: YAML file of the study, or its settings as plain data; paths in these are relative to the working folder.
        output: The study's folder, a path or a URL such as ``s3://bucket/study``.
        address: Ray cluster to run on; default: one on this machine.
        emit: Told the news.
        watch: Shown the progress of all methods, every second or so.

    Returns:
        The study's folder; give it to :func:`prunepeft_ray.compare_study`.

    Raises:
        InputError: If anything in the study is wrong, or the folder holds something else.
        RunError: If the study cannot go on; failing jobs and searches do not end it.
    """
    if isinstance(study, dict):
        spec = read_files(validate(StudySpec, study, "study"), Path("study"))
    else:
        spec = load_study(Path(study))
    return start_study(spec, open_path(output), emit or _ignore, watch or _ignore, address)


def resume(
    output: str | Path, *, workers: int | None = None, address: str | None = None, emit: Emit | None = None
) -> RunFolder:
    """Go on with an interrupted search or study; finished jobs are not run again.

    Args:
        output: The run's folder.
        workers: Workers of a search; may differ from before.
        address: Ray cluster to run on; default: one on this machine.
        emit: Told the news.

    Raises:
        InputError: If the folder holds no run, or its task or model has changed since.
        RunError: If the search failed.
    """
    folder = open_path(output)
    if RunFolder.open(folder).is_study:
        return resume_study(folder, emit or _ignore, _ignore, address)
    return resume_search(folder, emit or _ignore, workers, address)


def _ignore(_news: object) -> None:
    pass

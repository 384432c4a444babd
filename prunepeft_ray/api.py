"""The Python counterparts of the commands that search, compare, resume and track."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunepeft_ray.cluster import Terms
from prunepeft_ray.cluster.sharing.terms import EQUAL_TERMS
from prunepeft_ray.config import load_spec, validate
from prunepeft_ray.events import Emit
from prunepeft_ray.execution import Watch, resume_search, resume_study, start_search, start_study
from prunepeft_ray.results import RunFolder
from prunepeft_ray.storage.paths import open_path
from prunepeft_ray.study import StudySpec, load_study, read_files
from prunepeft_ray.tracking import track as log_run
from prunepeft_ray.tracking import tracking


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
    terms: Terms = EQUAL_TERMS,
    emit: Emit | None = None,
    track: Sequence[str] = (),
    pool: str | Path | None = None,
) -> RunFolder:
    """Search for the best PEFT architecture for a model, a task and a budget.

    Args:
        model: Hub id, local folder, GGUF file or ``packaged:NAME``.
        task: Name or file of the task, or a mapping of its settings.
        budget: Number of parameters, or a percentage of the backbone such as ``"1%"``.
        output: The run's folder, a path or a URL such as ``s3://bucket/run``; must be empty or not exist.
        config: YAML file with any of the settings.
        settings: Further settings, such as ``"training.epochs=3"``.
        seed: Seed of everything random in the search.
        workers: Number of workers; 1 searches in this process, without Ray. Default: by the amount of work.
        address: Ray cluster to run on; default: one on this machine.
        terms: Terms on which the run shares the cluster with other runs.
        emit: Callback that receives events.
        track: Trackers to log to during the run: ``tensorboard``, ``mlflow`` or ``wandb``.
        pool: Folder or URL of a pool of finished jobs, which are not trained again, or ``"off"``; default:
            ``$PRUNEPEFT_POOL``, or a folder in the user's cache unless the run has an ``address``.

    Returns:
        The run's folder, which can be passed to :func:`prunepeft_ray.summarise`, and its path to ``load_adapter``.

    Raises:
        InputError: If any of the settings is wrong, or the folder is not empty.
        RunError: If the search failed.
    """
    values = {"model": model, "task": task, "budget": None if budget is None else str(budget), "seed": seed}
    spec = load_spec(Path(config) if config else None, values, settings)
    path = open_path(output)
    with tracking(path, track, emit or _ignore) as tell:
        return start_search(spec, path, tell, workers, address, terms, _text(pool))


def compare(
    study: str | Path | dict[str, Any],
    *,
    output: str | Path,
    workers: int | None = None,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,
    emit: Emit | None = None,
    watch: Watch | None = None,
    track: Sequence[str] = (),
    pool: str | Path | None = None,
) -> RunFolder:
    """Compare search methods on equal terms; an existing study is continued with what is missing.

    Args:
        study: YAML file of the study, or its settings as plain data, with paths relative to the working folder.
        output: The study's folder, a path or a URL such as ``s3://bucket/study``.
        workers: Number of jobs at once on this machine; 1 runs them in this process, without Ray. Default: by the
            amount of work.
        address: Ray cluster to run on; default: one on this machine.
        terms: Terms on which the run shares the cluster with other runs.
        emit: Callback that receives events.
        watch: Callback that receives the progress of all methods, about once per second.
        track: Trackers to log to during the run: ``tensorboard``, ``mlflow`` or ``wandb``.
        pool: Folder or URL of a pool of finished jobs, which are not trained again, or ``"off"``; default:
            ``$PRUNEPEFT_POOL``, or a folder in the user's cache unless the run has an ``address``.

    Returns:
        The study's folder, which can be passed to :func:`prunepeft_ray.compare_study`.

    Raises:
        InputError: If any of the settings is wrong, or the folder contains something else.
        RunError: If the study cannot continue; failing jobs and searches do not stop it.
    """
    if isinstance(study, dict):
        spec = read_files(validate(StudySpec, study, "study"), Path("study"))
    else:
        spec = load_study(Path(study))
    path = open_path(output)
    with tracking(path, track, emit or _ignore) as tell:
        return start_study(spec, path, tell, watch or _ignore, address, terms, workers, _text(pool))


def resume(
    output: str | Path,
    *,
    workers: int | None = None,
    address: str | None = None,
    terms: Terms = EQUAL_TERMS,
    emit: Emit | None = None,
    track: Sequence[str] = (),
    trust_plugins: bool = False,
    pool: str | Path | None = None,
) -> RunFolder:
    """Resume an interrupted search or study; finished jobs are not run again.

    Args:
        output: The run's folder.
        workers: As in :func:`search` and :func:`compare`; may differ from before.
        address: Ray cluster to run on; default: one on this machine.
        terms: Terms on which the run shares the cluster with other runs.
        emit: Callback that receives events.
        track: Trackers to log to during the run: ``tensorboard``, ``mlflow`` or ``wandb``.
        trust_plugins: Whether to import plugins named in the folder's spec that you have not used on this machine; they
            run with your permissions.
        pool: As in :func:`search`; may differ from before.

    Raises:
        InputError: If the folder does not contain a run, its plugins are not trusted, or its task or model has changed.
        RunError: If the search failed.
    """
    folder = open_path(output)
    is_study = RunFolder.open(folder).is_study
    with tracking(folder, track, emit or _ignore) as tell:
        if is_study:
            return resume_study(folder, tell, _ignore, address, terms, trust_plugins, workers, _text(pool))
        return resume_search(folder, tell, workers, address, terms, trust_plugins, _text(pool))


def track(output: str | Path, *, to: Sequence[str]) -> None:
    """Log the results of a search or study so far to trackers; nothing is logged twice.

    Args:
        output: The run's folder.
        to: Names of trackers: ``tensorboard``, ``mlflow`` or ``wandb``.

    Raises:
        InputError: If the folder does not contain a run, or a tracker is unknown, not installed or not configured.
        RunError: If a tracker fails.
    """
    log_run(RunFolder.open(open_path(output)), to)


def _text(pool: str | Path | None) -> str | None:
    return None if pool is None else str(pool)


def _ignore(_event: object) -> None:
    pass

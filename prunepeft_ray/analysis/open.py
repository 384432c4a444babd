"""Opening the results of runs and studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prunepeft_ray.analysis.catalog import DERIVED
from prunepeft_ray.analysis.results import Results
from prunepeft_ray.errors import InputError
from prunepeft_ray.results import RunFolder
from prunepeft_ray.storage.paths import open_path

_COMPUTED = {frame.name: frame.make for frame in DERIVED.values()}


def open_strictly(folder: RunFolder) -> Results:
    """Open the results of a run or a study such that a damaged file is an error, not left out."""
    return Results(folder, folder.path.name, _COMPUTED, strict=True)


def open_results(path: str | Path) -> Results:
    """Open the results of a run or a study, finished or not.

    Args:
        path: Its folder, a path or a URL such as ``s3://bucket/run``.

    Raises:
        InputError: If it holds no run, or comes from a version that cannot be read.
    """
    return open_several([path])[0]


def open_several(paths: Sequence[str | Path]) -> list[Results]:
    """Open several runs or studies; those whose folders have the same name are called by their paths.

    Args:
        paths: Their folders, paths or URLs.

    Raises:
        InputError: As :func:`open_results`, or if one is named twice.
    """
    folders = [RunFolder.open(open_path(path)) for path in paths]
    places = [str(folder.path).rstrip("/") for folder in folders]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise InputError(f"{twice} is named twice; expected different runs")
    names = [folder.path.name for folder in folders]
    return [
        Results(folder, name if names.count(name) == 1 else place, _COMPUTED)
        for folder, name, place in zip(folders, names, places, strict=True)
    ]

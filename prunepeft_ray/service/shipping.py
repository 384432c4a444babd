"""This machine's own code, to be sent along with a job."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from prunepeft_ray.errors import InputError


def code_modules() -> list[str]:
    """Folders that make up the installed ``prunepeft-ray``: its packages, and the entry points that name the methods.

    Raises:
        InputError: If it is not installed here.
    """
    here = Path(__file__).parents[1]
    try:
        files = importlib.metadata.files("prunepeft-ray") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    records = {Path(str(file.locate())).parent for file in files if file.name == "entry_points.txt"}
    if not records:
        raise InputError("prunepeft-ray is not installed here, so its code cannot be sent: 'pip install prunepeft-ray'")
    return [str(here), str(here.parent / "baselines"), str(records.pop())]

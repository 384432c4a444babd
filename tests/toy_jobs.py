"""What tests of methods share: a template of jobs that never run, and numbers that look random."""

from __future__ import annotations

import hashlib
from typing import Any

from prunepeft_ray.architecture import Space
from prunepeft_ray.config import SearchSpec
from prunepeft_ray.jobs import TrainJob


def make_template(spec: SearchSpec, space: Space, **changes: Any) -> TrainJob:
    """A template for the supernet of a space; anything else by keyword."""
    values = {
        "model": "m",
        "model_fingerprint": "mf",
        "task": "t",
        "task_fingerprint": "tf",
        "metric": "accuracy",
        "architecture": space.supernet,
        "modules": spec.modules,
        "training": spec.training,
        "seed": spec.seed,
    }
    return TrainJob(**values | changes)


def digest(*parts: object) -> float:
    """A number in (0, 1) that looks random."""
    text = "/".join(map(str, parts))
    return (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") + 0.5) / 2**32

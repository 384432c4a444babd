"""All derived frames, by name."""

from __future__ import annotations

from prunepeft_ray.report.opening import DerivedFrame

_ALL: tuple[DerivedFrame, ...] = ()

DERIVED = {frame.name: frame for frame in _ALL}

"""Ray clusters: sessions, tokens, nodes, fair sharing, and a cluster on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunepeft_ray.lazy import lazy_attributes

if TYPE_CHECKING:
    from prunepeft_ray.cluster.sharing.terms import Terms

__all__ = ["Terms"]

__getattr__ = lazy_attributes(__name__, {"prunepeft_ray.cluster.sharing.terms": ("Terms",)})

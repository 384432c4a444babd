"""Frozen pretrained transformers: loading them, and locating their layers, projections and FFNs.

A new family takes one file with a :class:`Family` and one line here. What needs torch is imported on first use, since a
table of models does not.
"""

from __future__ import annotations

import lazy_loader

from prunepeft_ray.backbones import bert, llama, roberta  # noqa: F401  they register their families

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

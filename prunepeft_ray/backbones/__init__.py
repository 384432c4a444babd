"""Frozen pretrained transformers: load one, and know where its layers, projections and FFN are.

A new family is one file with a :class:`Family` and one line here.
"""

from prunepeft_ray.backbones import bert, llama, roberta
from prunepeft_ray.backbones.backbone import SITES, WHOLE, Backbone
from prunepeft_ray.backbones.family import FAMILIES, Family
from prunepeft_ray.backbones.load import load_backbone, load_outline, read_backbone
from prunepeft_ray.backbones.source import PACKAGED, ModelSource, find_source

__all__ = [
    "FAMILIES",
    "PACKAGED",
    "SITES",
    "WHOLE",
    "Backbone",
    "Family",
    "ModelSource",
    "bert",
    "find_source",
    "llama",
    "load_backbone",
    "load_outline",
    "read_backbone",
    "roberta",
]

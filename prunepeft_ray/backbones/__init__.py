"""Frozen pretrained transformers: loading them, and locating their layers, projections and FFNs.

A new family takes one file with a :class:`Family` and one line here.
"""

from prunepeft_ray.backbones import bert, llama, roberta
from prunepeft_ray.backbones.backbone import SITES, WHOLE, Backbone
from prunepeft_ray.backbones.family import FAMILIES, Family
from prunepeft_ray.backbones.loading import load_backbone, load_outline, load_tokenizer, read_backbone
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
    "load_tokenizer",
    "read_backbone",
    "roberta",
]

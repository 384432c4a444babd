from .backbone import SITES, WHOLE, Backbone
from .family import FAMILIES, Family
from .loading import load_backbone, load_outline, load_tokenizer, read_backbone
from .source import PACKAGED, ModelSource, find_source

__all__ = [
    "FAMILIES",
    "PACKAGED",
    "SITES",
    "WHOLE",
    "Backbone",
    "Family",
    "ModelSource",
    "find_source",
    "load_backbone",
    "load_outline",
    "load_tokenizer",
    "read_backbone",
]

"""Backbone families: where a model's parts are."""

from __future__ import annotations

from dataclasses import dataclass

from prunepeft_ray.registry import Registry


@dataclass(frozen=True)
class Family:
    """Where a family of transformers keeps the parts that PEFT modules attach to.

    Paths are dotted attribute paths of the ``AutoModelForSequenceClassification`` model.

    Args:
        name: The family's name in messages, such as ``"BERT"``.
        layers: Path of the list of layers.
        query: Path of the query projection inside a layer.
        value: Path of the value projection inside a layer.
        attention: Path inside a layer of the self-attention itself, which works on queries, keys and values.
        attention_output: Path inside a layer of the module whose output is the attention's update, before the
            residual is added.
        ffn_output: The same for the feed-forward network.
        ffn: Path inside a layer of the module that is called with the feed-forward network's input: either the whole
            network, or the part that adds the residual and takes that input as its second argument.
        head: Path of the task head.
        classifier: Path of the head's last projection, whose outputs are the logits.
        head_per_token: Whether the head's outputs are computed for every token, one of which is then used.
        reserved_positions: Number of positions of the position embedding that no token uses.
    """

    name: str
    layers: str
    query: str
    value: str
    attention: str
    attention_output: str
    ffn_output: str
    ffn: str
    head: str
    classifier: str
    head_per_token: bool = False
    reserved_positions: int = 0


FAMILIES: Registry[Family] = Registry("model family")
"""Families by the ``model_type`` of their models' configuration."""

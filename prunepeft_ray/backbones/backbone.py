"""A frozen pretrained transformer with a task head, and its parts by name."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from prunepeft_ray.backbones.family import Family
from prunepeft_ray.seeds import derive_seed

SITES = ("query", "value", "attention", "attention_output", "ffn", "ffn_output")
"""Places in a layer where PEFT modules attach."""
WHOLE = "whole"
"""The whole layer; the first and the last layer also cover what comes before and after the layers."""


@dataclass
class Backbone:
    """A frozen transformer for sequence classification or regression.

    Args:
        model: The transformers model; its parameters are frozen here.
        tokenizer: Its tokenizer.
        family: Where the parts of the model are.
        fingerprint: Digest of the weights.
        new_parameters: Names of parameters that the checkpoint lacked; they count as part of the head.
    """

    model: Any
    tokenizer: Any
    family: Family
    fingerprint: str
    new_parameters: frozenset[str] = frozenset()
    adapted: bool = field(default=False, init=False)
    parameters: int = field(init=False)
    """Number of parameters without the task head; tied weights count once."""

    def __post_init__(self) -> None:
        self.model.requires_grad_(False)
        self.model.eval()
        head = sum(p.numel() for p in self.head_parameters.values())
        self.parameters = sum(p.numel() for p in self.model.parameters()) - head

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if "tokenizer" in state:
            state["_packed_tokenizer"] = pickle.dumps(state.pop("tokenizer"), 5)
        return state

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # unpickling a tokenizer takes far longer than a model in shared memory, and few processes need it
            if name != "tokenizer" or "_packed_tokenizer" not in self.__dict__:
                raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
            self.tokenizer = pickle.loads(self.__dict__.pop("_packed_tokenizer"))
            return self.tokenizer

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self._layers)

    @property
    def _layers(self) -> nn.ModuleList:
        found: nn.ModuleList = self.model.get_submodule(self.family.layers)
        return found

    @property
    def layer_parameters(self) -> int:
        """Number of parameters of all layers."""
        return sum(parameter.numel() for parameter in self._layers.parameters())

    @property
    def hidden_size(self) -> int:
        """Width of the hidden state."""
        return int(self.model.config.hidden_size)

    @property
    def max_length(self) -> int:
        """Maximum number of tokens per example that both model and tokenizer accept."""
        positions = int(self.model.config.max_position_embeddings) - self.family.reserved_positions
        return min(positions, int(self.tokenizer.model_max_length))

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        device: torch.device = self.model.device
        return device

    @property
    def head_parameters(self) -> dict[str, nn.Parameter]:
        """The task head's parameters by name, including those that the checkpoint lacked."""
        return {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if name.startswith(self.family.head + ".") or name in self.new_parameters
        }

    def store_frozen(self, dtype: torch.dtype) -> Backbone:
        """Store the weights of frozen linear layers in another type; returns the same backbone.

        Half precision takes half the memory. Training under autocast to that type stays bitwise the same, since it
        converts these weights in every pass. What it computes in fp32, embeddings and norms, keeps its type, as does
        the head.
        """
        # an embedding may be tied to a linear layer
        embeddings = [module for module in self.model.modules() if isinstance(module, nn.Embedding)]
        kept = {id(p) for p in (*self.head_parameters.values(), *(module.weight for module in embeddings))}
        for module in self.model.modules():
            for parameter in module.parameters(recurse=False) if isinstance(module, nn.Linear) else ():
                if id(parameter) not in kept:
                    parameter.data = parameter.data.to(dtype)
        return self

    def to(self, device: torch.device) -> Backbone:
        """Move the weights to a device; returns the same backbone."""
        self.model.to(device)
        return self

    def parts(self, layer: int, site: str) -> tuple[str, ...]:
        """Return the names of the modules that make up a site: its own name, or model paths for :data:`WHOLE`.

        Together, the :data:`WHOLE` sites of all layers cover the model except for the task head.
        """
        if site != WHOLE:
            return (site,)
        before, after = self._outside_layers
        own = (f"{self.family.layers}.{layer}",)
        return (before if layer == 0 else ()) + own + (after if layer == self.layers - 1 else ())

    @property
    def _outside_layers(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Paths of the largest parametrised modules before and after the layers, without the task head."""
        layers = self.family.layers.split(".")
        before: dict[str, None] = {}
        after: dict[str, None] = {}
        found, head = before, self.head_parameters
        for name, _ in self.model.named_parameters():
            path = name.split(".")
            shared = next((i for i, part in enumerate(layers) if path[i] != part), len(layers))
            if shared == len(layers):
                found = after
            elif name not in head:
                found[".".join(path[: shared + 1])] = None
        return tuple(before), tuple(after)

    def site(self, layer: int, name: str) -> tuple[nn.Module, str]:
        """Return the module that holds a site and the name of its attribute, for reading and replacing the site.

        Args:
            layer: 0-based layer; ignored if ``name`` is a model path.
            name: One of :data:`SITES`, or a dotted path from the model.
        """
        if name not in SITES:
            *above, attribute = name.split(".")
            return reduce(getattr, above, self.model), attribute
        *parents, attribute = getattr(self.family, name).split(".")
        return reduce(_unwrapped_attribute, parents, _unwrap(self._layers[layer])), attribute

    def width(self, layer: int, name: str) -> tuple[int, int]:
        """Return the input and output width of a PEFT module's update at a site.

        A projection's update maps its input to its output. An attention's update maps the width of keys and values to
        the width of all heads' outputs. Everywhere else, hidden states map to hidden states.
        """
        if name == "attention":
            return self.width(layer, "value")[1], self.width(layer, "query")[1]
        if name in ("query", "value"):
            projection = getattr(*self.site(layer, name))
            return int(projection.in_features), int(projection.out_features)
        return self.hidden_size, self.hidden_size

    @contextmanager
    def running(self, layers: nn.ModuleList) -> Iterator[None]:
        """Return a context in which the model runs other modules in place of its layers."""
        parent, attribute = self.site(0, self.family.layers)
        own = getattr(parent, attribute)
        setattr(parent, attribute, layers)
        try:
            yield
        finally:
            setattr(parent, attribute, own)

    def reset_head(self, num_outputs: int, seed: int) -> None:
        """Resize the task head and reinitialise it: normal weights with the model's own deviation, zero biases.

        Args:
            num_outputs: Number of classes, or 1 for regression.
            seed: Seed of the weights, which are the same on every device.
        """
        *parents, attribute = self.family.classifier.split(".")
        parent = reduce(getattr, parents, self.model)
        old: nn.Linear = getattr(parent, attribute)
        if old.out_features != num_outputs:
            new = nn.Linear(old.in_features, num_outputs, bias=old.bias is not None, device=self.device)
            setattr(parent, attribute, new.to(old.weight.dtype).requires_grad_(False))
        self.model.num_labels = num_outputs
        spread = float(getattr(self.model.config, "initializer_range", 0.02))
        for name, parameter in self.head_parameters.items():
            generator = torch.Generator().manual_seed(derive_seed(seed, "head", name))
            if parameter.dim() > 1:
                fresh = torch.randn(parameter.shape, generator=generator) * spread
            else:
                fresh = torch.full(parameter.shape, 0.0 if name.endswith("bias") else 1.0)
            # new memory, since several processes may share the old one
            parameter.data = fresh.to(parameter.device, parameter.dtype)


def _unwrapped_attribute(parent: nn.Module, attribute: str) -> nn.Module:
    return _unwrap(getattr(parent, attribute))


def _unwrap(found: nn.Module) -> nn.Module:
    """Return the wrapped module: the sites of a wrapped layer, FFN or attention are inside it."""
    inner: nn.Module = getattr(found, "base_layer", found)
    return inner

"""Saving the modules and head of an adapted backbone, and reading them back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load, save

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.backbones import Backbone
from prunepeft_ray.config import Config, ModulesConfig, PositiveInt, validate
from prunepeft_ray.errors import InputError, quoted
from prunepeft_ray.modules.adapted import check_fits
from prunepeft_ray.modules.space import module_cost
from prunepeft_ray.parsing import parse_json, read_small
from prunepeft_ray.storage.paths import check_within, is_file, write_bytes
from prunepeft_ray.text import error_line

FORMAT = 1
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
BYTES_PER_PARAMETER, HEAD_BYTES = 16, 2**26
"""Maximum size of an adapter's weights: bytes per parameter of its backbone, plus bytes for the head."""
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class AdapterConfig:
    """The information needed to use saved modules.

    Args:
        model: The backbone they belong to, as named by the user.
        model_fingerprint: Digest of that backbone's weights.
        task: The task they were trained on.
        labels: Class names in the order of the logits; empty for regression.
        metrics: Metrics of the task, the primary one first.
        max_length: Maximum number of tokens per example in training.
        architecture: The filled slots.
        modules: How modules are scaled.
    """

    model: str
    model_fingerprint: str
    task: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    max_length: int
    architecture: Architecture
    modules: ModulesConfig

    @property
    def num_outputs(self) -> int:
        """Number of logits: the number of classes, or 1 for regression."""
        return max(1, len(self.labels))


def save_adapter(folder: Path, state: Mapping[str, torch.Tensor], config: AdapterConfig, card: str) -> None:
    """Write weights (safetensors), configuration (JSON) and model card (Markdown) into a folder.

    Args:
        folder: The folder; created if necessary.
        state: Weights by name, as returned by :meth:`AdaptedBackbone.state`.
        config: Describes the weights.
        card: Text of the model card.

    Raises:
        OSError: If the folder cannot be written.
    """
    write_bytes(folder / WEIGHTS_FILE, save(dict(state), metadata={"format": "pt"}))
    data = asdict(config) | {
        "format": FORMAT,
        "architecture": config.architecture.to_dict(),
        "modules": config.modules.model_dump(mode="json"),
    }
    write_bytes(folder / CONFIG_FILE, (json.dumps(data, indent=2, sort_keys=True) + "\n").encode())
    write_bytes(folder / "README.md", card.encode())


class _SavedConfig(Config):
    """The content of ``adapter_config.json``; values are not coerced to other types."""

    model_config = ConfigDict(strict=True)

    model: str
    model_fingerprint: str
    task: str
    labels: list[str]
    metrics: list[str] = Field(min_length=1)
    max_length: PositiveInt
    architecture: dict[str, Any]
    modules: ModulesConfig


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read what :func:`save_adapter` wrote, without the weights.

    Raises:
        InputError: If the folder contains no adapter, or one that this version cannot read.
    """
    if not (is_file(folder / CONFIG_FILE) and is_file(folder / WEIGHTS_FILE)):
        raise InputError(f"{folder} contains no adapter: expected {CONFIG_FILE} and {WEIGHTS_FILE} there")
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        check_within(folder / name, folder)
    with damaged_adapter(folder):
        try:
            data = parse_json(read_small(folder / CONFIG_FILE))
        except ValueError as error:
            raise InputError(f"{CONFIG_FILE}: {error_line(error)}") from error
        if not isinstance(data, dict):
            raise InputError(f"{CONFIG_FILE} is not a mapping")
        if (found := data.pop("format", None)) != FORMAT:
            raise InputError(f"{CONFIG_FILE}: format {quoted(found)} is not supported; expected {FORMAT}")
        saved = validate(_SavedConfig, data, CONFIG_FILE)
        return AdapterConfig(
            model=saved.model,
            model_fingerprint=saved.model_fingerprint,
            task=saved.task,
            labels=tuple(saved.labels),
            metrics=tuple(saved.metrics),
            max_length=saved.max_length,
            architecture=Architecture.from_dict(saved.architecture),
            modules=saved.modules,
        )


def read_adapter_weights(folder: Path, config: AdapterConfig, backbone: Backbone) -> dict[str, torch.Tensor]:
    """Read the weights of an adapter, and check that they match its architecture in number.

    The configuration alone is not trusted to allocate memory: the file must hold as many weights as it declares.

    Args:
        folder: The adapter's folder.
        config: The adapter's configuration.
        backbone: The backbone that the adapter is for.

    Raises:
        InputError: If the architecture does not fit the backbone, or the weights are damaged, too few or not finite.
    """
    with damaged_adapter(folder):
        check_fits(config.architecture, backbone.layers)
        needed = config.num_outputs * backbone.hidden_size + sum(
            module_cost(backbone, slot, module.type).parameters(module.size) for slot, module in config.architecture
        )
        try:
            state: dict[str, torch.Tensor] = load(
                read_small(folder / WEIGHTS_FILE, BYTES_PER_PARAMETER * backbone.parameters + HEAD_BYTES)
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(f"{WEIGHTS_FILE}: {error_line(error)}") from error
        if needed > (held := sum(weights.numel() for weights in state.values())):
            raise InputError(f"its architecture and labels need {needed:,} weights, but {WEIGHTS_FILE} holds {held:,}")
        for name, weights in state.items():
            if weights.dtype not in DTYPES:
                raise InputError(f"{WEIGHTS_FILE}: {quoted(name)} has the unsupported type {weights.dtype}")
            if not bool(weights.isfinite().all()):
                raise InputError(f"{WEIGHTS_FILE}: {quoted(name)} has weights that are not finite")
        return state


@contextmanager
def damaged_adapter(folder: Path) -> Iterator[None]:
    """Report input errors raised in the context as those of a damaged adapter.

    Raises:
        InputError: If one is raised in the context.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{folder} contains a damaged adapter: {error}") from error

"""Saving an adapted backbone's modules and head, and loading them into a fresh backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from prunepeft_ray.architecture import Architecture
from prunepeft_ray.config import ModulesConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.paths import is_file, read_bytes, write_bytes

FORMAT = 1
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class AdapterConfig:
    """What one needs to know to use saved modules.

    Args:
        model: The backbone they belong to, as named by the user.
        model_fingerprint: Digest of that backbone's weights.
        task: The task they were trained on.
        labels: Class names in the order of the logits; empty for regression.
        metrics: Metrics of the task, the deciding one first.
        max_length: Most tokens of an example in training.
        architecture: The filled slots.
        modules: How modules scale.
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
        """Number of logits: classes, or 1 for regression."""
        return max(1, len(self.labels))


def save_adapter(folder: Path, state: Mapping[str, torch.Tensor], config: AdapterConfig, card: str) -> None:
    """Write weights (safetensors), configuration (JSON) and model card (Markdown) into a folder.

    Args:
        folder: The folder; made if it is not there.
        state: Weights by name, as :meth:`AdaptedBackbone.state` gives them.
        config: What they are.
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


def load_adapter_files(folder: Path) -> tuple[AdapterConfig, dict[str, torch.Tensor]]:
    """Read what :func:`save_adapter` wrote.

    Raises:
        InputError: If the folder holds no adapter, or one that this version cannot read.
    """
    if not (is_file(folder / CONFIG_FILE) and is_file(folder / WEIGHTS_FILE)):
        raise InputError(f"{folder} holds no adapter: {CONFIG_FILE} and {WEIGHTS_FILE} are expected there")
    try:
        data = json.loads(read_bytes(folder / CONFIG_FILE).decode())
        if not isinstance(data, dict):
            raise InputError(f"{folder} holds a damaged adapter: {CONFIG_FILE} is no mapping")
        if (found := data.pop("format", None)) != FORMAT:
            raise InputError(f"{folder / CONFIG_FILE}: format {found} cannot be read; this version reads {FORMAT}")
        architecture = _architecture(folder, data["architecture"])
        config = AdapterConfig(
            **data
            | {
                "labels": tuple(data["labels"]),
                "metrics": tuple(data["metrics"]),
                "architecture": architecture,
                "modules": ModulesConfig.model_validate(data["modules"]),
            }
        )
        return config, load(read_bytes(folder / WEIGHTS_FILE))
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{folder} holds a damaged adapter: {' '.join(str(error).split())}") from error


def _architecture(folder: Path, data: Any) -> Architecture:
    try:
        return Architecture.from_dict(data)
    except InputError as error:
        raise InputError(f"{folder} holds a damaged adapter: {error}") from error

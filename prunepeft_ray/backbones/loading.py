"""Loading of frozen backbones, once per process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from prunepeft_ray.backbones.backbone import Backbone
from prunepeft_ray.backbones.family import FAMILIES, Family
from prunepeft_ray.backbones.source import ModelSource, find_source
from prunepeft_ray.errors import InputError


@lru_cache(maxsize=2)
def load_backbone(model: str, device: str = "cpu") -> Backbone:
    """Load a frozen backbone with its tokenizer, or return the one that this process has already loaded.

    Arguments and errors are those of :func:`read_backbone`.
    """
    return read_backbone(model, device)


def read_backbone(model: str, device: str = "cpu") -> Backbone:
    """Load a frozen backbone with its tokenizer, bypassing the cache of :func:`load_backbone`.

    Args:
        model: Hub id, local folder, GGUF file, ``packaged:minilm`` or ``packaged:smollm2``.
        device: Torch device to load it onto.

    Raises:
        InputError: If there is no such model, its family is not supported, or its checkpoint is incomplete.
        RunError: If the Hub cannot be reached.
    """
    import transformers

    source = find_source(model)
    location = _location(source)
    family = _family(model, _load_config(model, location))
    try:
        network, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            **location,
            num_labels=2,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
            trust_remote_code=False,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(**location, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"model '{model}' cannot be loaded: {_short(error)}") from error
    missing = {name for name in report["missing_keys"] if not name.startswith(family.head + ".")}
    # many checkpoints lack a pooler, which then trains as part of the head; nothing else may be missing
    if broken := sorted(name for name in missing if ".pooler." not in name):
        raise InputError(f"model '{model}': the checkpoint lacks {len(broken)} weights, such as {broken[0]}")
    # transformers initialises these at random
    if odd := sorted(name for name, *_ in report["mismatched_keys"] if not name.startswith(family.head + ".")):
        raise InputError(
            f"model '{model}': config.json does not match the checkpoint: {len(odd)} weights have a different shape, "
            f"such as {odd[0]}"
        )
    _check_finite(model, network, family.head)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise InputError(f"model '{model}': it has no tokenizer (tokenizer.json)")
    _ensure_padding(model, network, tokenizer)
    return Backbone(network.to(device), tokenizer, family, source.fingerprint(), frozenset(missing))


def _check_finite(model: str, network: Any, head: str) -> None:
    """Reject a checkpoint with NaN or infinite weights, on which every training would diverge."""
    for name, weights in network.named_parameters():
        # the head is reinitialised; aminmax propagates NaN, and allocates no memory of the weights' size
        if not name.startswith(f"{head}.") and not torch.stack(torch.aminmax(weights)).isfinite().all():
            raise InputError(f"model '{model}': the checkpoint is damaged: '{name}' has weights that are not finite")


def load_outline(model: str) -> Backbone:
    """Load the structure of a backbone on the meta device, without weights and tokenizer.

    This suffices to validate a search quickly against a model of any size.

    Raises:
        InputError: If there is no such model or its family is not supported.
        RunError: If the Hub cannot be reached.
    """
    import transformers

    source = find_source(model)
    config = _load_config(model, _location(source))
    family = _family(model, config)
    try:
        with torch.device("meta"):
            network = transformers.AutoModelForSequenceClassification.from_config(config)
        new = _missing_poolers(network, source)
    except (ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"model '{model}' cannot be loaded: {_short(error)}") from error
    return Backbone(network, None, family, source.fingerprint(), new)


def load_tokenizer(model: str) -> Any:
    """Load a backbone's tokenizer, without its weights.

    Raises:
        InputError: If there is no such model, or its tokenizer cannot be loaded.
        RunError: If the Hub cannot be reached.
    """
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(**_location(find_source(model)), trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise InputError(f"model '{model}': its tokenizer cannot be loaded: {_short(error)}") from error


def _missing_poolers(network: Any, source: ModelSource) -> frozenset[str]:
    """Names of the pooler's parameters if the checkpoint lacks them; as in a loaded backbone, they count as head."""
    poolers = frozenset(name for name, _ in network.named_parameters() if ".pooler." in name)
    for file in source.files if poolers else []:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as weights:
                if any("pooler." in name for name in weights.keys()):  # noqa: SIM118
                    return frozenset()
    return poolers


def _family(model: str, config: Any) -> Family:
    if config.model_type not in FAMILIES:
        supported = ", ".join(f"{FAMILIES[key].name} ({key})" for key in FAMILIES)
        raise InputError(
            f"model '{model}' is of family '{config.model_type}', which is not supported; supported: {supported}. "
            "A new family is one small file: see docs/extending.md"
        )
    return FAMILIES[config.model_type]


def _location(source: ModelSource) -> dict[str, Any]:
    """Arguments of transformers' ``from_pretrained`` that name a source."""
    location: dict[str, Any] = {"pretrained_model_name_or_path": str(source.folder)}
    if source.gguf_file:
        try:
            import gguf  # noqa: F401
        except ImportError as error:
            raise InputError("GGUF files need the extra 'gguf': run 'pip install prunepeft-ray[gguf]'") from error
        location["gguf_file"] = source.gguf_file
    return location


def _load_config(model: str, location: dict[str, Any]) -> Any:
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        return transformers.AutoConfig.from_pretrained(**location, trust_remote_code=False)
    except (ValueError, TypeError, KeyError, OSError, StrictDataclassError) as error:
        raise InputError(f"model '{model}': its configuration cannot be read: {_short(error)}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _ensure_padding(model: str, network: Any, tokenizer: Any) -> None:
    """Make sure there is a padding token, by which the model finds the last real token; many decoders lack one."""
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise InputError(f"model '{model}': its tokenizer has neither a padding token nor an end-of-text token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    network.config.pad_token_id = tokenizer.pad_token_id

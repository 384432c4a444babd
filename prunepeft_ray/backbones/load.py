"""Loading a frozen backbone, once per process."""

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
    """Load a frozen backbone with its tokenizer; a second call in this process returns the same object.

    Arguments and errors are those of :func:`read_backbone`.
    """
    return read_backbone(model, device)


def read_backbone(model: str, device: str = "cpu") -> Backbone:
    """Load a frozen backbone with its tokenizer, for one who does not keep it long.

    Args:
        model: Hub id, local folder, GGUF file, ``packaged:minilm`` or ``packaged:smollm2``.
        device: Torch device to keep it on.

    Raises:
        InputError: If there is no such model, its family is not supported or its checkpoint is incomplete.
        RunError: If the Hub cannot be reached.
    """
    import transformers

    source = find_source(model)
    where = _where(source)
    family = _family(model, _load_config(model, where))
    try:
        network, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            **where,
            num_labels=2,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
            trust_remote_code=False,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"model '{model}' cannot be loaded: {_short(error)}") from error
    missing = {name for name in report["missing_keys"] if not name.startswith(family.head + ".")}
    # a pooler is new in many checkpoints and trains as part of the head; nothing else may be
    if broken := sorted(name for name in missing if ".pooler." not in name):
        raise InputError(f"model '{model}': the checkpoint lacks {len(broken)} weights, such as {broken[0]}")
    # transformers fills these with random numbers
    if odd := sorted(name for name, *_ in report["mismatched_keys"] if not name.startswith(family.head + ".")):
        raise InputError(
            f"model '{model}': config.json does not fit the checkpoint: {len(odd)} weights have another shape, such as "
            f"{odd[0]}"
        )
    _check_finite(model, network, family.head)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise InputError(f"model '{model}': it comes without a tokenizer (tokenizer.json)")
    _ensure_padding(model, network, tokenizer)
    return Backbone(network.to(device), tokenizer, family, source.fingerprint(), frozenset(missing))


def _check_finite(model: str, network: Any, head: str) -> None:
    """Refuse a checkpoint with weights that are NaN or infinite: everything trained on it would be."""
    for name, weights in network.named_parameters():
        # the head starts afresh; NaN is an extreme of whatever holds one, and this takes no memory of its own
        if not name.startswith(f"{head}.") and not torch.stack(torch.aminmax(weights)).isfinite().all():
            raise InputError(f"model '{model}': the checkpoint is damaged: '{name}' has weights that are not finite")


def load_outline(model: str) -> Backbone:
    """Load what a backbone looks like, without its weights (they are on the meta device) and tokenizer.

    Enough to check a search against a model of any size, at once.

    Raises:
        InputError: If there is no such model or its family is not supported.
        RunError: If the Hub cannot be reached.
    """
    import transformers

    source = find_source(model)
    config = _load_config(model, _where(source))
    family = _family(model, config)
    try:
        with torch.device("meta"):
            network = transformers.AutoModelForSequenceClassification.from_config(config)
        new = _lacking_poolers(network, source)
    except (ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(f"model '{model}' cannot be loaded: {_short(error)}") from error
    return Backbone(network, None, family, source.fingerprint(), new)


def _lacking_poolers(network: Any, source: ModelSource) -> frozenset[str]:
    """Names of the pooler's parameters if the checkpoint lacks them: as in a loaded backbone, they count as head."""
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
            "A family is one small file: see docs/extending.md"
        )
    return FAMILIES[config.model_type]


def _where(source: ModelSource) -> dict[str, Any]:
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(source.folder)}
    if source.gguf_file:
        try:
            import gguf  # noqa: F401
        except ImportError as error:
            raise InputError("GGUF files need the extra 'gguf': type 'pip install prunepeft-ray[gguf]'") from error
        where["gguf_file"] = source.gguf_file
    return where


def _load_config(model: str, where: dict[str, Any]) -> Any:
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        return transformers.AutoConfig.from_pretrained(**where, trust_remote_code=False)
    except (ValueError, TypeError, KeyError, OSError, StrictDataclassError) as error:
        raise InputError(f"model '{model}': its configuration cannot be read: {_short(error)}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _ensure_padding(model: str, network: Any, tokenizer: Any) -> None:
    """Decoders often come without a padding token; the last real token must still be found."""
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise InputError(f"model '{model}': its tokenizer has neither a padding nor an end-of-text token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    network.config.pad_token_id = tokenizer.pad_token_id

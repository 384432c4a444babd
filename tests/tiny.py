"""Tiny random models as local folders, with a real tokenizer over English words."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    BertConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from prunepeft_ray.architecture import Architecture, Module, Slot
from prunepeft_ray.backbones import Backbone, find_source
from prunepeft_ray.modules import MODULE_TYPES

SPECIAL = ("<pad>", "<unk>", "<cls>", "<sep>")
WORDS = 800


def english_words(count: int) -> list[str]:
    """Common English words, from the packaged MiniLM's vocabulary, which begins with the most frequent."""
    vocabulary = (find_source("packaged:minilm").folder / "vocab.txt").read_text(encoding="utf-8").split()
    return [word for word in vocabulary if word.isascii() and word.isalpha()][:count]


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A lower-casing tokenizer of whole words; Llama's adds no tokens and has no padding token, as in real life."""
    words = [*SPECIAL, ".", ",", "!", "?", "'", *"abcdefghijklmnopqrstuvwxyz", *english_words(WORDS)]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if family == "llama":
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<cls>", eos_token="<sep>", model_max_length=64
        )
    cls, sep = (("<cls>", vocabulary["<cls>"]), ("<sep>", vocabulary["<sep>"]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<cls> $A <sep>", pair="<cls> $A <sep> $B:1 <sep>:1", special_tokens=[cls, sep]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<cls>",
        sep_token="<sep>",
        model_input_names=["input_ids", *(["token_type_ids"] if family == "bert" else []), "attention_mask"],
        model_max_length=64,
    )


def tiny_config(family: str, vocabulary: int, **changes: object) -> PretrainedConfig:
    """Configuration of a tiny model of a family; anything else by keyword."""
    common = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 80,
        # larger than usual, so that the layers do something
        "initializer_range": 0.2,
    }
    if family == "llama":
        made = LlamaConfig(
            **common
            | {"num_hidden_layers": 5, "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3}
            | changes
        )
    else:
        kind = {"bert": BertConfig, "roberta": RobertaConfig}[family]
        segments = 2 if family == "bert" else 1
        made = kind(**common | {"num_hidden_layers": 4, "pad_token_id": 0, "type_vocab_size": segments} | changes)
    return made


def make_tiny_model(family: str, folder: Path, seed: int = 0, **changes: object) -> Path:
    """Write a tiny random model into a folder: the base model without a task head, as most checkpoints are.

    Args:
        family: ``bert``, ``roberta`` or ``llama``.
        folder: Where to; made.
        seed: Seeds the weights.
        changes: What the configuration has otherwise.
    """
    tokenizer = make_tokenizer(family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(tiny_config(family, len(tokenizer), **changes))
        # norms and biases start at ones and zeros; other values tell mistakes in their order apart
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


TEXTS = ("the film is great", "no", "what a very long and slow story about nothing at all !")


def tiny_batch(backbone: Backbone) -> dict[str, torch.Tensor]:
    """Three texts of different lengths, padded on the right."""
    backbone.tokenizer.padding_side = "right"
    return dict(backbone.tokenizer(list(TEXTS), padding=True, return_tensors="pt"))


def hidden_states(backbone: Backbone) -> torch.Tensor:
    """All hidden states of :func:`tiny_batch`: shape (layers + 1, batch, tokens, width). They ignore the head."""
    with torch.no_grad():
        return torch.stack(backbone.model(**tiny_batch(backbone), output_hidden_states=True).hidden_states)


def filled(layers: int, *types: str, size: int = 4) -> Architecture:
    """An architecture with modules of those types in every layer."""
    return Architecture.of(
        {Slot(layer, MODULE_TYPES[t].kind): Module(t, size) for layer in range(layers) for t in types}
    )

"""Encoding of texts as token ids, once per process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prunepeft_ray.backbones import Backbone
from prunepeft_ray.seeds import derive_seed
from prunepeft_ray.tasks import Split, TaskData, stratified_split, stratified_subset

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """A split as padded token ids; batches are sliced from it without touching individual examples.

    Args:
        input_ids: Shape (examples, tokens), int32.
        token_types: Token types of text pairs, of the same shape, if the model uses them; otherwise None.
        lengths: Number of tokens per example without padding, shape (examples,).
        labels: Class ids (int64) or numbers (float32), shape (examples,).
    """

    input_ids: Tensor
    token_types: Tensor | None
    lengths: Indices
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """A digest of the examples' tokens, in this order, without labels and padding."""
        found = hashlib.sha256(self.lengths.tobytes())
        real = np.arange(self.input_ids.shape[1]) < self.lengths[:, None]
        for tokens in (self.input_ids, self.token_types):
            found.update(b"" if tokens is None else tokens.numpy()[real].tobytes())
        return found.hexdigest()

    def take(self, indices: Indices) -> EncodedSplit:
        """Return the examples at some positions."""
        rows = torch.from_numpy(indices)
        types = None if self.token_types is None else self.token_types[rows]
        return EncodedSplit(self.input_ids[rows], types, self.lengths[indices], self.labels[rows])

    def batch(self, indices: Indices, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
        """Return a batch, padded to the length of its own longest example.

        Returns:
            The model's inputs, each of shape (batch, tokens), and the labels, of shape (batch,).
        """
        rows = torch.from_numpy(indices)
        lengths = torch.from_numpy(self.lengths[indices])
        longest = int(lengths.max())
        inputs = {
            "input_ids": self.input_ids[rows, :longest].to(device, torch.long, non_blocking=True),
            "attention_mask": (torch.arange(longest) < lengths[:, None]).to(device, torch.long, non_blocking=True),
        }
        if self.token_types is not None:
            inputs["token_type_ids"] = self.token_types[rows, :longest].to(device, torch.long, non_blocking=True)
        return inputs, self.labels[rows].to(device, non_blocking=True)


def encode(split: Split, backbone: Backbone, max_length: int) -> EncodedSplit:
    """Tokenise a split.

    Args:
        split: Texts and labels.
        backbone: The backbone whose tokenizer to use.
        max_length: Maximum number of tokens per example, capped by what the backbone accepts; longer ones are
            truncated.
    """
    backbone.tokenizer.padding_side = "right"
    limit = min(max_length, backbone.max_length)
    encoded = backbone.tokenizer(
        split.texts, split.texts2, truncation=True, max_length=limit, padding="longest", return_tensors="np"
    )
    types = encoded.get("token_type_ids") if split.texts2 is not None else None
    return EncodedSplit(
        input_ids=torch.from_numpy(encoded["input_ids"].astype(np.int32)),
        token_types=None if types is None else torch.from_numpy(types.astype(np.int32)),
        lengths=encoded["attention_mask"].sum(axis=1).astype(np.int64),
        labels=torch.from_numpy(split.labels),
    )


@dataclass(frozen=True, eq=False)
class EncodedTask:
    """A task and its splits as token ids."""

    data: TaskData
    train: EncodedSplit
    dev: EncodedSplit
    tests: Mapping[str, EncodedSplit]
    """Test splits by the suffix of their metrics, as in ``data``."""

    def subset(self, size: int | None, holdout: float) -> tuple[EncodedSplit, EncodedSplit]:
        """Draw a stratified subset of the training split, and divide it into a part to train on and a held-out part.

        The subset depends only on the task, so all jobs of a search with the same size train on the same examples.

        Args:
            size: Number of examples in the subset; None for the whole split.
            holdout: Fraction of the subset to hold out; 0 for none.
        """
        labels = self.data.train.labels
        seed = derive_seed(0, "subset", self.data.fingerprint)
        chosen = np.arange(len(labels)) if size is None else stratified_subset(labels, min(size, len(labels)), seed)
        if not holdout:
            return self.train.take(chosen), self.train.take(chosen[:0])
        kept, held = stratified_split(labels[chosen], [1 - holdout, holdout], seed)
        return self.train.take(chosen[kept]), self.train.take(chosen[held])


def encode_task(data: TaskData, backbone: Backbone, max_length: int) -> EncodedTask:
    """Tokenise all splits of a task for a backbone."""
    tests = {suffix: encode(split, backbone, max_length) for suffix, split in data.tests.items()}
    return EncodedTask(data, encode(data.train, backbone, max_length), encode(data.dev, backbone, max_length), tests)


def cut_line(task: EncodedTask, backbone: Backbone, max_length: int) -> str | None:
    """Describe how many texts of a task's splits were truncated, and at what length; None if there are none."""
    data = task.data
    parts = {"train": (data.train, task.train), "dev": (data.dev, task.dev)}
    parts |= {f"test{suffix}": (split, task.tests[suffix]) for suffix, split in data.tests.items()}
    counts = {name: count_cut(*splits, backbone, max_length) for name, splits in parts.items()}
    cut = [f"{count:,} of {len(parts[name][0]):,} in {name}" for name, count in counts.items() if count]
    return cut_text(", ".join(cut), backbone, max_length) if cut else None


def cut_text(counts: str, backbone: Backbone, max_length: int) -> str:
    """Describe how many texts were truncated."""
    limit = min(max_length, backbone.max_length)
    why = "training.max_length" if limit < backbone.max_length else "the model's maximum"
    return f"texts of more than {limit} tokens ({why}) are truncated: {counts}"


def count_cut(split: Split, encoded: EncodedSplit, backbone: Backbone, max_length: int) -> int:
    """Count the texts, or pairs of texts, that were truncated."""
    limit = min(max_length, backbone.max_length)
    longest = split.take(np.flatnonzero(encoded.lengths >= limit))
    if not len(longest):
        return 0
    whole = backbone.tokenizer(longest.texts, longest.texts2, truncation=False)["input_ids"]
    return sum(len(tokens) > limit for tokens in whole)


def epoch_batches(lengths: Indices, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """Shuffle examples into batches of similar length.

    Examples are shuffled, sorted by length within pools of 50 batches and divided into batches, which are shuffled in
    turn. This needs little padding, and the order differs in every epoch.

    Args:
        lengths: Number of tokens per example.
        batch_size: Examples per batch; the last batch may be smaller.
        seed: The job's seed.
        epoch: 1-based.
    """
    rng = np.random.default_rng(derive_seed(seed, "order", epoch))
    order = rng.permutation(len(lengths))
    pools = np.split(order, range(50 * batch_size, len(order), 50 * batch_size))
    order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    batches = np.split(order, range(batch_size, len(order), batch_size))
    return [batches[i] for i in rng.permutation(len(batches))]

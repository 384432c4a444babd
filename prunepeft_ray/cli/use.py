"""``prunepeft evaluate`` and ``predict``: using a saved adapter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prunepeft_ray.cli.streams import print_json
from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.paths import is_file, one_line, open_path, readable

Folder = Annotated[str, typer.Argument(metavar="DIR", help="Folder or URL of a finished run, or its adapter folder.")]
Model = Annotated[str | None, typer.Option(help="Where to load the backbone from, if it has moved.")]
Data = Annotated[Path | None, typer.Option(help="CSV, JSONL or Parquet file.")]
TextColumn = Annotated[str | None, typer.Option("--text-column", help="Column of the text in the file.")]
Text2Column = Annotated[str | None, typer.Option("--text2-column", help="Column of the second text.")]
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
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Measure a saved adapter on a split of a task or on a labelled file."""
    if task and data:
        raise InputError("give --task or --data, not both")
    if split not in ("train", "dev", "test"):
        raise InputError(f"--split {split}: expected train, dev or test")
    from prunepeft_ray.tasks import read_examples
    from prunepeft_ray.training import load_adapter

    predictor = load_adapter(folder, model)
    labels = predictor.config.labels
    if data:
        examples = read_examples(data, text, text2, label, labels, regression=not labels, find_label=True)
    else:
        examples = _task_split(folder, task, split, labels)
    metrics = predictor.evaluate(examples)
    if as_json:
        print_json({"examples": len(examples), "metrics": metrics})
        return
    console = Console()
    console.print(f"{len(examples):,} examples of {data or task or folder}", highlight=False, markup=False)
    table = Table("metric", "value")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)


def _task_split(folder: str, task: str | None, split: str, labels: tuple[str, ...]) -> Any:
    from prunepeft_ray.plugins import load_plugins
    from prunepeft_ray.results import RunFolder
    from prunepeft_ray.tasks import load_task

    if task is None:
        path = open_path(folder)
        if not is_file(path / "spec.yaml"):
            raise InputError(f"{folder} is no run's folder: say what to measure with --task or --data")
        spec = RunFolder.open(path).spec
        load_plugins(spec.plugins)
        config = spec.task
    else:
        config = TaskConfig(name=task)
    found = load_task(config)
    if found.labels != labels:
        raise InputError(
            f"task '{config.name}' has other labels ({', '.join(found.labels) or 'numbers'}) than the adapter "
            f"({', '.join(labels) or 'numbers'})"
        )
    return getattr(found, split)


def predict(
    folder: Folder,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text; repeatable. '-' reads lines.")] = None,
    text2: Annotated[list[str] | None, typer.Option("--text2", help="Second text of a pair; one per --text.")] = None,
    data: Data = None,
    text_column: TextColumn = None,
    text2_column: Text2Column = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Predict the label of texts, or of every row of a file."""
    if bool(text) == bool(data):
        raise InputError("say what to predict: --text '...' (repeatable, - for standard input) or --data FILE")
    if text2 and len(text2) != len(text or []):
        raise InputError(f"{len(text or [])} --text but {len(text2)} --text2: pairs need one of each")
    from prunepeft_ray.tasks import read_examples
    from prunepeft_ray.training import load_adapter

    texts, texts2 = [readable(one) for one in text or []], [readable(one) for one in text2 or []] or None
    if texts == ["-"]:
        texts = _lines()
    if any(not one.strip() for one in texts):
        raise InputError("--text: an empty text has nothing to predict")
    predictor = load_adapter(folder, model)
    if data:
        labels = predictor.config.labels
        split = read_examples(data, text_column, text2_column, None, labels, regression=not labels)
        texts, texts2 = split.texts, split.texts2
    predictions = predictor.predict(texts, texts2)
    if as_json:
        for one, found in zip(texts, predictions, strict=True):
            print_json({"text": one, "label": found.label, "value": found.value}, indent=None)
        return
    table = Table("prediction", "probability" if predictor.config.labels else "value", "text")
    for one, found in zip(texts, predictions, strict=True):
        table.add_row(Text(found.label or ""), f"{found.value:.4f}", Text(one))
    Console().print(table)


def _lines() -> list[str]:
    try:
        return [line.rstrip("\n") for line in sys.stdin]
    except UnicodeDecodeError as error:
        raise InputError(f"--text -: standard input is no UTF-8 ({one_line(error)})") from error

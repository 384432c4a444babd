"""``prunepeft evaluate`` and ``predict``: using a saved adapter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from prunepeft_ray.cli.options import AsJson, Encoding, Label, Separator, Text, Text2, TrustPlugins
from prunepeft_ray.cli.terminal import Terminal, put_json, say
from prunepeft_ray.config import TaskConfig
from prunepeft_ray.errors import InputError
from prunepeft_ray.storage.paths import is_file, open_path
from prunepeft_ray.text import error_line, readable

if TYPE_CHECKING:
    from prunepeft_ray.tasks import Split

Folder = Annotated[str, typer.Argument(metavar="DIR", help="Folder or URL of a finished run, or of its adapter.")]
Model = Annotated[str | None, typer.Option(help="Where to load the backbone from, if it has moved.")]
Data = Annotated[Path | None, typer.Option(metavar="FILE", help="CSV, JSONL or Parquet file.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(evaluate)
    app.command()(predict)


def evaluate(
    folder: Folder,
    task: Annotated[str | None, typer.Option(help="Task to evaluate on; default: that of the run.")] = None,
    split: Annotated[str, typer.Option(help="Split of the task: train, dev or test.")] = "test",
    data: Data = None,
    text: Text = None,
    text2: Text2 = None,
    label: Label = None,
    encoding: Encoding = None,
    separator: Separator = None,
    model: Model = None,
    trust_plugins: TrustPlugins = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a saved adapter on a split of a task or on a labelled file."""
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
    """Load the examples to evaluate on, keyed by the suffix of their metrics."""
    from prunepeft_ray.plugins import load_run_plugins
    from prunepeft_ray.results import RunFolder
    from prunepeft_ray.tasks import load_task

    if task is None:
        path = open_path(folder)
        if not is_file(path / "spec.yaml"):
            raise InputError(f"{folder} is not the folder of a run: give --task NAME or --data FILE to evaluate on")
        spec = RunFolder.open(path).spec
        load_run_plugins(spec.plugins, path, trust_plugins)
        config = spec.task.model_copy(update={key: value for key, value in form.items() if value is not None})
    else:
        config = TaskConfig(name=task, **form)
    found = load_task(config, say)
    if found.labels != labels:
        raise InputError(
            f"the labels of task '{config.name}' ({', '.join(found.labels) or 'numbers'}) differ from those of the "
            f"adapter ({', '.join(labels) or 'numbers'})"
        )
    return {"train": {"": found.train}, "dev": {"": found.dev}, "test": found.tests}[split]


def predict(
    folder: Folder,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="TEXT", help="Text to predict; repeatable. '-' reads standard input, one text per line."
        ),
    ] = None,
    input2: Annotated[
        list[str] | None,
        typer.Option("--input2", metavar="TEXT", help="Second text of a pair; one for each --input."),
    ] = None,
    data: Data = None,
    text: Text = None,
    text2: Text2 = None,
    encoding: Encoding = None,
    separator: Separator = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Predict the labels of texts, or of all rows of a file."""
    if (text or text2) and not data:
        raise InputError("--text and --text2 name columns of --data FILE: give a text to predict as --input 'TEXT'")
    if bool(input_) == bool(data):
        raise InputError("give what to predict: --input 'TEXT' (repeatable, - for standard input) or --data FILE")
    if input2 and len(input2) != len(input_ or []):
        raise InputError(f"{len(input_ or [])} --input but {len(input2)} --input2: a pair needs one of each")
    from prunepeft_ray.tasks import FileFormat, read_examples
    from prunepeft_ray.training import load_adapter

    texts, texts2 = [readable(one) for one in input_ or []], [readable(one) for one in input2 or []] or None
    if texts == ["-"]:
        texts = _lines()
    if any(not one.strip() for one in texts):
        raise InputError("--input: the text is empty")
    predictor = load_adapter(folder, model)
    if data:
        labels = predictor.config.labels
        form = FileFormat(encoding, separator)
        split = read_examples(data, text, text2, None, labels, not labels, form=form, tell=say)
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
        raise InputError(f"--input -: standard input is not valid UTF-8 ({error_line(error)})") from error

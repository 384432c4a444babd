"""Reading what W&B keeps of a run offline; its Python package has no reader of its own any more."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

from prunepeft_ray.waiting import poll

PATIENCE_SECONDS = 10.0
HEADER, BLOCK = 7, 32 * 1024
FIRST, LAST = (1, 2), (1, 4)
"""Types of a piece that begins a record, and of one that ends it."""


@dataclass
class WandbRun:
    """A run: its record, its history, its summary and how it ended."""

    id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    project: str = ""
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    files: tuple[str, ...] = ()
    raw: bytes = b""


def wandb_runs(folder: Path) -> list[WandbRun]:
    """All finished runs below a ``wandb`` folder, in the order in which they began."""
    files = sorted(folder.glob("offline-run-*/*.wandb"), key=lambda file: file.stat().st_ctime)
    return [_read_finished(file) for file in files]


def _read_finished(file: Path) -> WandbRun:
    """Read a run; W&B's own process may still be writing when the run is finished for us."""
    poll(lambda: _read(file).exit_code is not None, PATIENCE_SECONDS, 0.05)
    return _read(file)


def _read(file: Path) -> WandbRun:
    run = WandbRun(raw=file.read_bytes(), files=tuple(sorted(f.name for f in (file.parent / "files").iterdir())))
    for data in _records(run.raw):
        record = pb.Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            told = record.run
            run.id, run.name, run.group, run.job_type = told.run_id, told.display_name, told.run_group, told.job_type
            run.project, run.tags = told.project, tuple(told.tags)
            run.config |= {item.key: json.loads(item.value_json) for item in told.config.update}
        elif record.HasField("history"):
            run.history.append(_values(record.history.item))
        elif record.HasField("summary"):
            run.summary |= _values(record.summary.update)
        elif record.HasField("exit"):
            run.exit_code = record.exit.exit_code
    return run


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[bytes]:
    """Put the pieces of LevelDB's log format together."""
    assert data[:4] == b":W&B"
    at, whole = HEADER, b""
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + HEADER])
        whole = (b"" if kind in FIRST else whole) + data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in LAST:
            yield whole

"""A made-up study of any size: rows of all tables, with plausible numbers, written in seconds."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from prunepeft_ray.results import KEYED_BY_JOB, RunFolder, search_key
from prunepeft_ray.results.compaction import MAX_FILES, CompactedFile, write_compacted
from prunepeft_ray.results.parquet_file import encode
from prunepeft_ray.results.schema import arrow_schema
from prunepeft_ray.storage.paths import stamps
from prunepeft_ray.study import StudySpec

METHODS = (
    "prunepeft",
    "no-partition",
    "single:weight",
    "single:zeros",
    "random-pruning",
    "uniform-lora",
    "random-search",
    "asha",
)
TASKS = ("packaged:movie", "sst2")
PRUNING = METHODS[:5]
CANDIDATES = METHODS[6:]
MODEL, KINDS, LAYERS, CRITERIA = "packaged:minilm", ("PA", "PF", "PT", "SA"), 6, ("weight", "zeros")
SLOTS = [f"{kind}.{layer}" for kind in KINDS for layer in range(LAYERS)]
MODULE = {"PA": ("lora", 8), "PF": ("parallel", 16), "PT": ("prefix", 30), "SA": ("pfeiffer", 16)}
BACKBONE, BUDGET, TRAIN_SIZE = 22_000_000, 220_000, 4000
WORKERS = tuple(f"node{number % 4}:{4000 + number}" for number in range(16))
BEGIN = np.datetime64(datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None), "us")
FAILURES = 0.01
"""Share of jobs that have failed."""
LINKS = 60_000
"""How often a file is linked; file systems allow not many more."""


def make_study(path: Path, jobs: int = 100_000, *, seeds: int = 5, singles: int = 50) -> RunFolder:
    """Write a finished study: eight methods, two tasks, several seeds.

    Nearly all rows lie in merged parts. There is a file for every job all the same, so that folders are as long as in a
    real study, but those that have been merged hold nothing (``find`` and plain readers of Parquet see only the
    singles).

    Args:
        path: Its folder, on a disk.
        jobs: Jobs, about as many for every search.
        seeds: Seeds of searches and of retrainings.
        singles: Jobs that are not merged yet.
    """
    spec = StudySpec(
        methods=METHODS,
        tasks=TASKS,
        models=(MODEL,),
        seeds=tuple(range(seeds)),
        budget=BUDGET,
        pruning={"criteria": CRITERIA},
        limits={"evaluations": jobs},
    )
    folder = RunFolder.create(path, spec)
    facts = _facts(spec, jobs)
    tables = {
        "jobs": _jobs(facts),
        "epochs": _epochs(facts),
        "scores": _scores(facts),
        "architectures": _architectures(facts),
        "requests": _requests(spec, facts),
        "decisions": _decisions(facts),
        "searches": _searches(spec, facts),
    }
    for table, (frame, files) in tables.items():
        _write(folder.results, table, frame, files, len(frame) if table == "searches" else singles)
    return folder


Rows = tuple[pd.DataFrame, np.ndarray]
"""Rows of a table, and the name of the file of each, in order."""


def _facts(spec: StudySpec, jobs: int) -> pd.DataFrame:
    """One row per job: which search it belongs to, its part, and what came of it."""
    cells = [(cell.method.label, cell.task.name, cell.seed) for cell in spec.cells()]
    cell = np.sort(np.arange(jobs) % len(cells))
    method, task, seed = (np.array(column)[cell] for column in zip(*cells, strict=True))
    facts = pd.DataFrame({"method": method, "task": task, "seed": seed})
    facts["position"] = facts.groupby(cell).cumcount()
    from_end = facts.groupby(cell).position.transform("max") - facts.position
    final = from_end < len(spec.seeds)
    candidate = facts.method.isin(CANDIDATES)
    early = facts.position < 3
    facts["kind"] = np.select([final, candidate, early], ["final", "candidate", "warmup"], "round")
    facts["retrain_seed"] = from_end.where(final)
    chance = np.random.default_rng(0)
    facts["failed"] = (chance.random(jobs) < FAILURES) & ~final
    facts["examples"] = np.where(final, 3 * TRAIN_SIZE, chance.integers(100, TRAIN_SIZE, jobs))
    quality = 0.8 - 0.02 * pd.Series(facts.method).map({name: i for i, name in enumerate(METHODS)})
    facts["value"] = (quality + chance.normal(0, 0.02, jobs)).clip(0, 1)
    facts["seconds"] = 0.01 * facts.examples * chance.uniform(0.8, 1.2, jobs)
    facts["worker"] = np.arange(jobs) % len(WORKERS)
    facts["start"] = facts.groupby("worker").seconds.cumsum() - facts.seconds
    facts["slots"] = chance.integers(4, len(SLOTS) + 1, jobs)
    facts["run_id"] = np.array([search_key(spec.id, m, t, MODEL, s) for m, t, s in cells])[cell]
    facts["job_id"] = sorted(hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in range(jobs))
    facts["file"] = facts.job_id + ".parquet"
    return facts


def _jobs(facts: pd.DataFrame) -> Rows:
    good, final = ~facts.failed, facts.kind == "final"
    start = pd.Series(BEGIN + (facts.start * 1e6).astype("timedelta64[us]")).dt.tz_localize("UTC")
    job_json = json.dumps({"model": MODEL, "architecture": {slot: ["lora", 8] for slot in SLOTS}, "training": {}})
    frame = facts.assign(
        model=MODEL,
        model_fingerprint="m",
        task_fingerprint="t",
        task_train_size=TRAIN_SIZE,
        job_seed=facts.seed,
        label=facts.kind,
        architecture_id=facts.job_id,
        parameters=facts.slots * (BUDGET // len(SLOTS)),
        head_parameters=1000,
        backbone_parameters=BACKBONE,
        budget=BUDGET,
        train_size=facts.examples.where(~final),
        epochs=np.where(final, 3, 1),
        epochs_done=np.where(final, 3, 1),
        best_epoch=1,
        evaluate="dev",
        metric="accuracy",
        metrics=_maps(facts.value.where(good)),
        test_metrics=_maps((facts.value - 0.02).where(good & final)),
        status=np.where(good, "done", "failed"),
        reason=np.where(good, "", "the GPU is out of memory"),
        train_examples=facts.examples,
        redone_examples=0,
        eval_examples=400,
        steps=facts.examples // 32,
        micro_batches=1,
        restarts=0,
        flops=facts.examples * 1e9,
        device_seconds=facts.seconds,
        wall_seconds=facts.seconds,
        peak_memory_bytes=500_000_000 + 1000 * facts.slots,
        workers=[[WORKERS[number]] for number in facts.worker],
        reused=False,
        started_at=start,
        finished_at=start + pd.to_timedelta(facts.seconds, unit="s").astype("timedelta64[us]"),
        job_json=job_json,
        versions=[[("python", "3.11"), ("torch", "2.9")]] * len(facts),
        hardware=[[("cpu", "some"), ("cores", "16")]] * len(facts),
    )
    return frame, facts.file.to_numpy()


def _maps(values: pd.Series) -> list[list[tuple[str, float]]]:
    return [[] if np.isnan(value) else [("accuracy", value), ("loss", 1 - value)] for value in values]


def _repeat(facts: pd.DataFrame, counts: np.ndarray | int) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows as often as said, and the number of each among its likes."""
    counts = np.broadcast_to(counts, len(facts))
    whole = facts.loc[np.repeat(facts.index, counts)].reset_index(drop=True)
    return whole, np.arange(len(whole)) - np.repeat(np.cumsum(counts) - counts, counts)


def _epochs(facts: pd.DataFrame) -> Rows:
    whole, number = _repeat(facts, np.where(facts.failed, 0, np.where(facts.kind == "final", 3, 1)))
    loss = 1 - whole.value + 0.1 / (1 + number)
    frame = whole.assign(epoch=number + 1, train_loss=loss, metrics=_maps(whole.value), seconds=whole.seconds)
    return frame, whole.file.to_numpy()


def _scores(facts: pd.DataFrame) -> Rows:
    scored = facts.method.isin(PRUNING) & facts.kind.isin(["round", "warmup"]) & ~facts.failed
    some = facts.assign(slots=np.where(scored, len(SLOTS), 0))
    whole, number = _repeat(some, some.slots.to_numpy() * len(CRITERIA))
    chance = np.random.default_rng(1)
    frame = _slots(whole, number % len(SLOTS)).assign(
        criterion=np.array(CRITERIA)[number // len(SLOTS)],
        theta=chance.random(len(whole)),
        theta_even=chance.random(len(whole)),
        theta_odd=chance.random(len(whole)),
    )
    return frame, whole.file.to_numpy()


def _slots(frame: pd.DataFrame, number: np.ndarray) -> pd.DataFrame:
    slot = np.array(SLOTS)[number]
    return frame.assign(slot=slot, layer=number % LAYERS, kind=np.array(KINDS)[number // LAYERS])


def _architectures(facts: pd.DataFrame) -> Rows:
    whole, number = _repeat(facts, facts.slots.to_numpy())
    frame = _slots(whole, number)
    frame["architecture_id"] = whole.job_id
    frame["module"] = frame.kind.map({kind: module for kind, (module, _) in MODULE.items()})
    frame["size"] = frame.kind.map({kind: size for kind, (_, size) in MODULE.items()})
    return frame, whole.file.to_numpy()


def _requests(spec: StudySpec, facts: pd.DataFrame) -> Rows:
    frame = facts.assign(run_id=spec.id, model=MODEL, label=facts.kind)
    files = facts.run_id + "-" + facts.position.astype(str).str.zfill(5) + ".parquet"
    return frame, files.to_numpy()


def _decisions(facts: pd.DataFrame) -> Rows:
    """Of every pruning search one decision per round about all slots that are left, for up to twelve rounds."""
    rounds = facts[facts.method.isin(PRUNING) & (facts.kind == "round")]
    rounds = rounds[rounds.groupby("run_id").cumcount() < 12]
    index = rounds.groupby("run_id").cumcount().to_numpy()
    whole, number = _repeat(rounds.assign(index=index + 1).reset_index(drop=True), len(SLOTS) - index)
    chance = np.random.default_rng(2)
    frame = _slots(whole, number).assign(
        step="round",
        criteria=[[CRITERIA[0]]] * len(whole),
        probability=chance.random(len(whole)),
        removed=number == len(SLOTS) - whole["index"],
    )
    frame["partition"] = (frame.layer // 3).astype(str) + "." + frame.kind
    files = whole.run_id + "-round-" + whole["index"].astype(str).str.zfill(2) + "-" + whole.job_id + ".parquet"
    return frame, files.to_numpy()


def _searches(spec: StudySpec, facts: pd.DataFrame) -> Rows:
    last = facts.groupby("run_id", sort=False).tail(1)
    candidates = (facts.kind == "candidate").groupby(facts.run_id).sum()
    failed = np.arange(len(last)) == len(last) - 1
    frame = last.assign(
        run_id=spec.id,
        model=MODEL,
        status=np.where(failed, "failed", "done"),
        reason=np.where(failed, "RunError: over the budget", ""),
        architecture_id=last.job_id,
        parameters=last.slots * (BUDGET // len(SLOTS)),
        budget=BUDGET,
        reference=False,
        evaluations=last.run_id.map(candidates),
        proposal_seconds=1.5,
        architecture="",
    )
    return frame, (last.run_id + ".parquet").to_numpy()


def _make_copies(folder: Path, names: list[str], data: bytes) -> None:
    """Make many files that share their bytes, quickly."""
    for begin in range(0, len(names), LINKS):
        (folder / names[begin]).write_bytes(data)
        source = f"{folder}/{names[begin]}"
        for name in names[begin + 1 : begin + LINKS]:
            os.link(source, f"{folder}/{name}")


def _write(results: Path, table: str, frame: pd.DataFrame, files: np.ndarray, singles: int) -> None:
    """Write rows: those of the last files singly, all others merged."""
    schema = arrow_schema(table)
    # a job has a file in its tables even where it has no rows
    names = (
        sorted(file.name for file in (results / "jobs").iterdir()) if table in KEYED_BY_JOB[1:] else sorted({*files})
    )
    counts = pd.Series(files).value_counts().reindex(names, fill_value=0).to_numpy()
    order = np.argsort(pd.Categorical(files, categories=names, ordered=True).codes, kind="stable")
    rows = pa.Table.from_pandas(frame[schema.names].iloc[order], schema, preserve_index=False)
    rows = rows.replace_schema_metadata(schema.metadata)
    folder, starts = results / table, np.cumsum(counts) - counts
    folder.mkdir(parents=True)
    merged = max(0, len(names) - singles)
    _make_copies(folder, names[:merged], encode(schema.empty_table()))
    for name, start, count in zip(names[merged:], starts[merged:], counts[merged:], strict=True):
        (folder / name).write_bytes(encode(rows.slice(start, count)))
    found = stamps(folder)
    for begin in range(0, merged, MAX_FILES):
        some = slice(begin, min(begin + MAX_FILES, merged))
        held = {name: (int(count), found[name]) for name, count in zip(names[some], counts[some], strict=True)}
        part = rows.slice(int(starts[begin]), int(counts[some].sum()))
        write_compacted(results, table, CompactedFile(part, held))

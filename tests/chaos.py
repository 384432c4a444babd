"""Searches as processes of their own, to be killed, stopped and resumed like a user's."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from execution_toys import job_ids, make_spec

import prunepeft_ray
from prunepeft_ray.config import SearchSpec, dump_yaml
from prunepeft_ray.waiting import wait_until

ROOT = str(Path(prunepeft_ray.__file__).parents[1])
LONGER = (
    "warmup.epochs=12",
    "pruning.round_epochs=12",
    "training.epochs=30",
    "training.patience=30",
    "execution.checkpoint_seconds=0.3",
)
"""Jobs of about a second, so that there is something to interrupt."""


def longer_spec(model: str, task: Path, *settings: str) -> SearchSpec:
    """The toy search with jobs that last a second each."""
    return make_spec(model, task, *LONGER, *settings)


def environment(**changes: str) -> dict[str, str]:
    """A user's environment: none of the settings that this process has for Ray, and a mark of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return kept | {"PYTHONPATH": ROOT, "OMP_NUM_THREADS": "1", "PRUNEPEFT_TEST": uuid.uuid4().hex} | changes


def processes(mark: str) -> dict[int, str]:
    """Command lines of all processes with that mark in their environment, by pid."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"PRUNEPEFT_TEST={mark}".encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().decode(errors="replace")
    return found


def kill_all(mark: str) -> None:
    """Kill all processes with that mark in their environment."""
    for pid in processes(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class SearchProcess:
    """``prunepeft`` in a process of its own.

    Args:
        folder: The run's folder.
        arguments: The command line.
        log: File for its output.
        env: Its environment.
        start: What Python runs.
    """

    def __init__(
        self,
        folder: Path,
        arguments: list[str],
        log: Path,
        env: dict[str, str],
        start: Sequence[str] = ("-m", "prunepeft_ray"),
    ) -> None:
        self.folder, self.log, self.mark = folder, log, env["PRUNEPEFT_TEST"]
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *start, *arguments], env=env, stdout=stream, stderr=stream, start_new_session=True
            )

    @property
    def told(self) -> str:
        """All that it has printed."""
        return self.log.read_text(errors="replace")

    def workers(self, name: str = "RayTrainWorker") -> list[int]:
        """Pids of the workers that train, by the name of their actor."""
        return [pid for pid, command in processes(self.mark).items() if command.startswith(f"ray::{name}")]

    def wait_until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Wait until something is so, or the process has ended."""
        wait_until(lambda: condition() or self.process.poll() is not None, seconds, lambda: self.told, pause=0.02)

    def wait_for_jobs(self, count: int) -> None:
        """Wait until that many jobs are finished and the next one has kept a state."""
        self.wait_until(lambda: len(job_ids(self.folder)) >= count)
        self.wait_until(lambda: len(job_ids(self.folder)) > count or self.has_checkpoint())

    def has_checkpoint(self) -> bool:
        """Whether a running job has kept a state; that of one that has just finished is there for a moment longer."""
        return any(file.stem not in job_ids(self.folder) for file in (self.folder / "checkpoints").glob("*.ckpt"))

    def end(self, number: int) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(120)

    def kill_all(self) -> None:
        """Kill it and everything that it has started."""
        kill_all(self.mark)
        self.process.wait(10)


@contextlib.contextmanager
def searching(
    folder: Path, spec: SearchSpec | None, *arguments: str, env: dict[str, str] | None = None, log: str = "log"
) -> Iterator[SearchProcess]:
    """Start a search, or resume one if there is no spec, and leave nothing of it running."""
    if spec is not None:
        (folder.parent / "search.yaml").write_text(dump_yaml(spec))
        command = ["search", "--config", str(folder.parent / "search.yaml"), "--output", str(folder)]
    else:
        command = ["resume", str(folder)]
    search = SearchProcess(folder, [*command, *arguments], folder.parent / log, env or environment())
    try:
        yield search
    finally:
        search.kill_all()


def jobs_before(folder: Path) -> dict[str, int]:
    """Number of jobs that a finished run had finished when each phase was under way; in warm-up, one."""
    files = (folder / "results" / "jobs").glob("[!.]*.parquet")
    kinds = [pq.read_table(file, columns=["kind"])["kind"][0].as_py() for file in files]
    return {"warmup": 1, "round": kinds.count("warmup"), "final": len(kinds) - 1}


def restarts(folder: Path) -> int:
    """How often jobs of a run were taken up again from a checkpoint."""
    files = (folder / "results" / "jobs").glob("[!.]*.parquet")
    return sum(pq.read_table(file, columns=["restarts"])["restarts"][0].as_py() for file in files)


def redone(folder: Path) -> int:
    """Examples that a run has trained on beyond the price of its jobs."""
    files = (folder / "results" / "jobs").glob("[!.]*.parquet")
    return sum(pq.read_table(file, columns=["redone_examples"])["redone_examples"][0].as_py() for file in files)


def finished_twice(told: str) -> list[str]:
    """Labels of jobs that say more than once that they are finished."""
    ended = re.findall(r"^(.*): [\d,]+ examples in ", told, flags=re.MULTILINE)
    return [label for label in set(ended) if ended.count(label) > 1]


def every_file_is_readable(folder: Path) -> bool:
    """Whether every Parquet file of a run can be read."""
    for file in (folder / "results").rglob("[!.]*.parquet"):
        pq.read_table(file)
    return True


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Start a cluster of two nodes; yields its address, pids and process, and the environment to use it in."""
    env = environment(RAY_AUTH_MODE="disabled", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_USAGE_STATS_ENABLED="0")
    command = [sys.executable, str(Path(__file__).parent / "two_nodes.py")]
    cluster = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for line in cluster.stdout:
            if line.startswith("{"):
                yield json.loads(line) | {"process": cluster}, env
                break
    finally:
        kill_all(env["PRUNEPEFT_TEST"])
        cluster.wait(10)


def let_join(cluster: dict[str, Any], **resources: float) -> None:
    """Let a further node join a cluster of :func:`two_nodes`; returns when it has."""
    process = cluster["process"]
    process.stdin.write(json.dumps(resources) + "\n")
    process.stdin.flush()
    while "joined" not in process.stdout.readline():
        assert process.poll() is None


@contextlib.contextmanager
def running(
    nodes: tuple[dict[str, Any], dict[str, str]], kind: str, config: Path, path: Path, **terms: Any
) -> Iterator[SearchProcess]:
    """Start a search or a study on a cluster, on given terms, and leave nothing of it running.

    Args:
        nodes: The cluster and the environment to use it in.
        kind: ``search`` or ``study``.
        config: Its YAML.
        path: Its folder, whose name is the job's.
        terms: Its terms, and ``workers`` of a search.
    """
    cluster, env = nodes
    env = env | {"PRUNEPEFT_TEST": uuid.uuid4().hex}
    arguments = [kind, str(config), str(path), cluster["address"], json.dumps({"job": path.name} | terms)]
    script = str(Path(__file__).parent / "on_terms.py")
    run = SearchProcess(path, arguments, path.with_suffix(".log"), env, (script,))
    try:
        yield run
    finally:
        run.kill_all()

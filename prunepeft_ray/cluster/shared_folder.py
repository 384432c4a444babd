"""Checking that every node of a cluster sees a run's folder. Import this module only when Ray is configured."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prunepeft_ray.errors import InputError
from prunepeft_ray.results.run import SEEN
from prunepeft_ray.storage.paths import is_file, is_local, open_path, remove_file, write_bytes
from prunepeft_ray.text import error_line

WAIT_SECONDS = 120.0
SHOWN = 3


def check_reach(folder: Path) -> None:
    """Check that this node can write to a run's folder, and that every other node sees what was written.

    Args:
        folder: The folder; need not exist, and is removed again if it was created for the check.

    Raises:
        InputError: If it is not writable, or some nodes do not see it; the message names them.
    """
    mark = folder / f"{SEEN}{uuid.uuid4().hex}"
    with _marked(folder, mark):
        blind = [why for why in _look_everywhere(str(mark)) if why]
    if blind:
        more = f" and {len(blind) - SHOWN} more" if len(blind) > SHOWN else ""
        raise InputError(
            f"--output {folder} is not visible on all nodes of the cluster ({'; '.join(blind[:SHOWN])}{more}): use a "
            "folder that all nodes share, or a bucket such as s3://bucket/run"
        )


@contextmanager
def _marked(folder: Path, mark: Path) -> Iterator[None]:
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()] if is_local(folder) else []
        write_bytes(mark, b"")
    except OSError as error:
        raise InputError(
            f"--output {folder} is not writable on {socket.gethostname()}, the cluster's head node "
            f"({error_line(error)}): choose another folder, or fix its permissions"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            remove_file(mark)
            for path in made:
                path.rmdir()


def _look_everywhere(mark: str) -> list[str]:
    """Run a task on each node that is alive; returns a problem per node, empty where there is none."""
    here = ray.get_runtime_context().get_node_id()
    others = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in others]
    asked = [look.options(scheduling_strategy=place).remote(mark) for place in there]
    found = []
    for node, answer in zip(others, asked, strict=True):
        try:
            found.append(ray.get(answer, timeout=WAIT_SECONDS))
        except RayError as error:
            found.append(f"node {node[:8]} does not answer: {type(error).__name__}")
    return found


def _look(mark: str) -> str:
    where = f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
    try:
        return "" if is_file(open_path(mark)) else f"missing on {where}"
    except Exception as error:  # noqa: BLE001  whatever is wrong there, the user should know
        return f"{where}: {error_line(error)}"

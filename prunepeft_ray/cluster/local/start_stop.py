"""A Ray cluster of several nodes on this machine, to try things out: ``prunepeft cluster up`` and ``down``.

It listens only on the loopback interface and requires a token. What was started is recorded in the user's state folder,
so that exactly those processes are stopped.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from prunepeft_ray.cluster.local.machine import _cores, _free_port, _port, _store_bytes
from prunepeft_ray.cluster.local.node import start_node
from prunepeft_ray.cluster.local.nodes import ANSWER_SECONDS, node_states
from prunepeft_ray.cluster.local.state import DOWN, LocalCluster, _check_ours, _read_record, state_folder
from prunepeft_ray.cluster.private_ray.node import LOOPBACK
from prunepeft_ray.cluster.ray_folder import make_ray_folder
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.processes import end_family, is_alive
from prunepeft_ray.storage.files import locked
from prunepeft_ray.text import counted, error_line
from prunepeft_ray.waiting import wait_until

MAX_NODES = 32
START_SECONDS = 180.0
GRACE_SECONDS = 10.0
LOOK_SECONDS = 0.25
DASHBOARD_PORT = 8265
GCS_PORT = 6379


def start_local_cluster(nodes: int, cpus: int | None, gpus: int | None, emit: Emit) -> LocalCluster:
    """Start a cluster on this machine that outlives this process.

    Args:
        nodes: Number of nodes, including the head.
        cpus: CPUs of each node; None divides those of this machine among the nodes, with at least one each.
        gpus: GPUs of the head; None for those of this machine. The other nodes have none.
        emit: Callback that receives events.

    Raises:
        InputError: If a local cluster is already running, or a number is out of range.
        RunError: If the cluster cannot be started; everything that was started is stopped again.
    """
    _check(nodes, cpus, gpus)
    folder = _make_folder(state_folder())
    with _alone(folder):
        _make_way(folder)
        cluster = _lay_out(folder)
        try:
            return start_nodes(cluster, nodes, cpus or max(1, _cores() // nodes), gpus, emit)
        except BaseException:
            _clear(cluster, keep_logs=True)
            raise


def start_nodes(cluster: LocalCluster, nodes: int, cpus: int, gpus: int | None, emit: Emit) -> LocalCluster:
    """Start all nodes of a cluster that has none yet, and wait until they are alive.

    Args:
        cluster: The cluster.
        nodes: Number of nodes, including the head.
        cpus: CPUs of each node.
        gpus: GPUs of the head; None for those of this machine.
        emit: Callback that receives events.

    Raises:
        RunError: If a node does not start.
        OSError: If the cluster's record cannot be written.
    """
    emit(Event("message", f"starting {counted(nodes, 'node')} of {counted(cpus, 'CPU')}"))
    store = _store_bytes(nodes)
    cluster = start_head(cluster, cpus, gpus, store)
    wait_for_head(cluster)
    while len(cluster.nodes) < nodes:
        # when many nodes start at once each is slow, and Ray gives up on slow ones
        for _ in range(min(_cores(), nodes - len(cluster.nodes))):
            cluster = add_node(cluster, cpus, store)
        wait_for_nodes(cluster, len(cluster.nodes))
        emit(Event("message", f"{len(cluster.nodes)} of {counted(nodes, 'node')} started"))
    wait_for_nodes(cluster, nodes)
    return cluster


def start_head(cluster: LocalCluster, cpus: int, gpus: int | None, store_bytes: int) -> LocalCluster:
    """Start the first node of a cluster, without waiting for it.

    Args:
        cluster: The cluster; has no nodes yet.
        cpus: CPUs of the node.
        gpus: GPUs of the node; None for those of this machine.
        store_bytes: Size of its object store.
    """
    arguments = ["--head", "--port", _port(cluster.gcs), "--dashboard-host", LOOPBACK]
    arguments += ["--dashboard-port", _port(cluster.address), *([] if gpus is None else ["--num-gpus", str(gpus)])]
    return _add(cluster, arguments, cpus, store_bytes)


def add_node(cluster: LocalCluster, cpus: int, store_bytes: int) -> LocalCluster:
    """Start another node of a cluster, with no GPUs, without waiting for it.

    Args:
        cluster: The cluster; its head is running.
        cpus: CPUs of the node.
        store_bytes: Size of its object store.
    """
    return _add(cluster, ["--address", cluster.gcs, "--num-gpus", "0"], cpus, store_bytes)


def wait_for_head(cluster: LocalCluster) -> None:
    """Wait until other nodes can join a cluster.

    Raises:
        RunError: If the head exits, or takes too long.
    """
    host, _, port = cluster.gcs.rpartition(":")

    def answers() -> bool:
        with suppress(OSError), socket.create_connection((host, int(port)), ANSWER_SECONDS):
            return True
        return False

    _wait_for_start(cluster, answers)


def wait_for_nodes(cluster: LocalCluster, alive: int) -> None:
    """Wait until at least ``alive`` nodes of a cluster are alive.

    Raises:
        RunError: If one exits, or they take too long.
    """

    def are_there() -> bool:
        # the dashboard comes last
        with suppress(RunError):
            return sum(node.state == "ALIVE" for node in node_states(cluster)) >= alive
        return False

    _wait_for_start(cluster, are_there)


def stop_local_cluster(emit: Emit) -> LocalCluster | None:
    """Stop exactly what ``prunepeft cluster up`` started, whatever is left of it.

    Args:
        emit: Callback that receives events.

    Returns:
        The cluster that was stopped; None if there was none.

    Raises:
        InputError: If the cluster's record is damaged, or the cluster is on another machine.
    """
    folder = state_folder()
    if _read_record(folder) is None:
        return None
    with _alone(folder):
        cluster = _read_record(folder)
        if cluster is None:
            return None
        _check_ours(cluster)
        stopped = _clear(cluster)
    what = f"{stopped} process{'' if stopped == 1 else 'es'}"
    emit(Event("message", f"stopped {what}" if stopped else "its processes had already stopped"))
    return cluster


def _check(nodes: int, cpus: int | None, gpus: int | None) -> None:
    if not hasattr(os, "fork"):
        raise InputError(
            "a local cluster needs Linux or macOS; elsewhere, start Ray's nodes by hand: see docs/deployment.md"
        )
    if not 1 <= nodes <= MAX_NODES:
        raise InputError(f"--local {nodes}: a local cluster has 1 to {MAX_NODES} nodes")
    if cpus is not None and cpus < 1:
        raise InputError(f"--cpus {cpus}: a node needs at least 1 CPU")
    if gpus is not None and gpus < 0:
        raise InputError(f"--gpus {gpus}: expected 0 or more")


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be used ({error.strerror}): set PRUNEPEFT_STATE to another folder"
        ) from error
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only process that starts or stops a cluster; report in one line what cannot be written."""
    try:
        with locked(folder, busy=f"another 'prunepeft cluster' is running in {folder}: wait until it has finished"):
            yield
    except OSError as error:
        raise RunError(f"the local cluster's files in {folder} cannot be written: {error_line(error)}") from error


def _make_way(folder: Path) -> None:
    """Remove what is left of an earlier cluster, unless it is still running."""
    earlier = _read_record(folder)
    if earlier is None:
        return
    _check_ours(earlier)
    if earlier.nodes and is_alive(earlier.nodes[0]):
        raise InputError(f"a local cluster is already running at {earlier.address}: use it, or stop it with {DOWN}")
    _clear(earlier)


def _lay_out(folder: Path) -> LocalCluster:
    """Choose ports, create the token and Ray's folder, and record them."""
    for log in folder.glob("node-*.log"):
        log.unlink()
    token_file = folder / "token"
    token_file.unlink(missing_ok=True)
    descriptor = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(secrets.token_hex(32))
    cluster = LocalCluster(
        address=f"http://{LOOPBACK}:{_free_port(DASHBOARD_PORT)}",
        gcs=f"{LOOPBACK}:{_free_port(GCS_PORT)}",
        token_file=token_file,
        nodes=(),
        folder=folder,
        temp=make_ray_folder(),
        mark=uuid.uuid4().hex,
    )
    try:
        cluster.save()
    except OSError:
        _clear(cluster)
        raise
    return cluster


def _add(cluster: LocalCluster, arguments: list[str], cpus: int, store_bytes: int) -> LocalCluster:
    index = len(cluster.nodes)
    size = ["--num-cpus", str(cpus), "--object-store-memory", str(store_bytes)]
    # nodes that share a folder would use the same socket names
    size += ["--temp-dir", str(cluster.temp / str(index))]
    node = start_node(
        [*arguments, *size], mark=f"{cluster.mark}.{index}", token_file=cluster.token_file, log=cluster.log(index)
    )
    cluster = replace(cluster, nodes=(*cluster.nodes, node))
    cluster.save()
    return cluster


def _wait_for_start(cluster: LocalCluster, condition: Callable[[], bool]) -> None:
    """Wait for something that comes only while all nodes of a cluster live."""

    def is_met() -> bool:
        if condition():
            return True
        for index, node in enumerate(cluster.nodes):
            if not is_alive(node):
                raise RunError(f"node {index} of the cluster did not start: {_last_line(cluster.log(index))}")
        return False

    def late() -> str:
        said = _last_line(cluster.log(0))
        return f"the cluster did not start within {START_SECONDS:.0f} s: {said}; see {cluster.folder}"

    wait_until(is_met, START_SECONDS, late, LOOK_SECONDS)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it printed nothing")


def _clear(cluster: LocalCluster, keep_logs: bool = False) -> int:
    """Stop a cluster's processes and remove its files; returns the number of processes."""
    stopped = end_family(cluster.mark, cluster.nodes, GRACE_SECONDS)
    shutil.rmtree(cluster.temp, ignore_errors=True)
    gone = [cluster.token_file, cluster.folder / "cluster.json"]
    for file in gone if keep_logs else [*gone, *cluster.folder.glob("node-*.log")]:
        file.unlink(missing_ok=True)
    return stopped

"""A Ray cluster of several nodes on this machine, to try things out: ``prunepeft cluster up`` and ``down``.

It listens on the loopback interface alone and asks for a token. What was started is written down in a folder of the
user's, so that exactly that is ended.
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
from prunepeft_ray.cluster.local.state import DOWN, LocalCluster, _check_ours, _written_down, state_folder
from prunepeft_ray.cluster.private_ray.node import LOOPBACK
from prunepeft_ray.cluster.ray_folder import make_ray_folder
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.events import Emit, Event
from prunepeft_ray.processes import end_family, is_alive
from prunepeft_ray.storage.files import locked
from prunepeft_ray.text import counted, one_line
from prunepeft_ray.waiting import wait_until

MOST_NODES = 32
START_SECONDS = 180.0
GRACE_SECONDS = 10.0
LOOK_SECONDS = 0.25
DASHBOARD_PORT = 8265
GCS_PORT = 6379


def start_local_cluster(nodes: int, cpus: int | None, gpus: int | None, emit: Emit) -> LocalCluster:
    """Start a cluster on this machine, which outlives this process.

    Args:
        nodes: How many nodes, the head among them.
        cpus: CPUs of each node; None to deal out those of this machine, at least one each.
        gpus: GPUs of the head; None for those of this machine. The other nodes have none.
        emit: Told what goes on.

    Raises:
        InputError: If there is one already, or a number makes no sense.
        RunError: If it cannot be started; then all that was started is ended.
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
    """Start all nodes of a cluster that has none yet, and wait until they live.

    Args:
        cluster: The cluster.
        nodes: How many, the head among them.
        cpus: CPUs of each.
        gpus: GPUs of the head; None for those of this machine.
        emit: Told what goes on.

    Raises:
        RunError: If a node does not start.
        OSError: If files cannot be written.
    """
    emit(Event("message", f"starting {counted(nodes, 'node')} of {counted(cpus, 'CPU')}"))
    store = _store_bytes(nodes)
    cluster = start_head(cluster, cpus, gpus, store)
    wait_for_head(cluster)
    while len(cluster.nodes) < nodes:
        # Ray gives up on a node that is slow to start, as it is among many
        for _ in range(min(_cores(), nodes - len(cluster.nodes))):
            cluster = add_node(cluster, cpus, store)
        wait_for_nodes(cluster, len(cluster.nodes))
        emit(Event("message", f"{len(cluster.nodes)} of {counted(nodes, 'node')} live"))
    wait_for_nodes(cluster, nodes)
    return cluster


def start_head(cluster: LocalCluster, cpus: int, gpus: int | None, store_bytes: int) -> LocalCluster:
    """Start the first node of a cluster, and do not wait for it.

    Args:
        cluster: The cluster; it has no nodes yet.
        cpus: CPUs of the node.
        gpus: Its GPUs; None for those of this machine.
        store_bytes: Size of its object store.
    """
    arguments = ["--head", "--port", _port(cluster.gcs), "--dashboard-host", LOOPBACK]
    arguments += ["--dashboard-port", _port(cluster.address), *([] if gpus is None else ["--num-gpus", str(gpus)])]
    return _add(cluster, arguments, cpus, store_bytes)


def add_node(cluster: LocalCluster, cpus: int, store_bytes: int) -> LocalCluster:
    """Start one more node of a cluster, without GPUs, and do not wait for it.

    Args:
        cluster: The cluster; its head lives.
        cpus: CPUs of the node.
        store_bytes: Size of its object store.
    """
    return _add(cluster, ["--address", cluster.gcs, "--num-gpus", "0"], cpus, store_bytes)


def wait_for_head(cluster: LocalCluster) -> None:
    """Wait until further nodes can join a cluster.

    Raises:
        RunError: If the head ends, or takes too long.
    """
    host, _, port = cluster.gcs.rpartition(":")

    def answers() -> bool:
        with suppress(OSError), socket.create_connection((host, int(port)), ANSWER_SECONDS):
            return True
        return False

    _wait_for_start(cluster, answers)


def wait_for_nodes(cluster: LocalCluster, alive: int) -> None:
    """Wait until so many nodes of a cluster live.

    Raises:
        RunError: If one ends, or they take too long.
    """

    def are_there() -> bool:
        # the dashboard comes last
        with suppress(RunError):
            return sum(node.state == "ALIVE" for node in node_states(cluster)) >= alive
        return False

    _wait_for_start(cluster, are_there)


def stop_local_cluster(emit: Emit) -> LocalCluster | None:
    """End exactly what ``prunepeft cluster up`` has started, whatever is left of it.

    Args:
        emit: Told what was ended.

    Returns:
        The cluster that was; None if there was none.

    Raises:
        InputError: If what is written down of it is damaged, or it is another machine's.
    """
    folder = state_folder()
    if _written_down(folder) is None:
        return None
    with _alone(folder):
        cluster = _written_down(folder)
        if cluster is None:
            return None
        _check_ours(cluster)
        ended = _clear(cluster)
    emit(Event("message", f"ended its {ended} processes" if ended else "its processes had ended already"))
    return cluster


def _check(nodes: int, cpus: int | None, gpus: int | None) -> None:
    if not hasattr(os, "fork"):
        raise InputError(
            "a local cluster needs Linux or macOS: elsewhere start the nodes by hand, see docs/deployment.md"
        )
    if not 1 <= nodes <= MOST_NODES:
        raise InputError(f"--local {nodes}: a local cluster has 1 to {MOST_NODES} nodes")
    if cpus is not None and cpus < 1:
        raise InputError(f"--cpus {cpus}: a node has at least 1 CPU")
    if gpus is not None and gpus < 0:
        raise InputError(f"--gpus {gpus}: give 0 or more")


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be used ({error.strerror}): set PRUNEPEFT_STATE to a folder of your own"
        ) from error
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only one who starts or ends a cluster, and say in a line what cannot be written."""
    try:
        with locked(folder, busy=f"another 'prunepeft cluster' is at work in {folder}: wait for it"):
            yield
    except OSError as error:
        raise RunError(f"the local cluster's files in {folder} cannot be written: {one_line(error)}") from error


def _make_way(folder: Path) -> None:
    """Remove what is left of an earlier cluster, if that has ended."""
    earlier = _written_down(folder)
    if earlier is None:
        return
    _check_ours(earlier)
    if earlier.nodes and is_alive(earlier.nodes[0]):
        raise InputError(f"a local cluster runs already at {earlier.address}: use it, or end it by {DOWN}")
    _clear(earlier)


def _lay_out(folder: Path) -> LocalCluster:
    """Choose ports, make the token and Ray's folder, write it all down."""
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
    # nodes that share a folder pick the same names for their sockets
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
    return next((line for line in reversed(lines) if line), "it said nothing")


def _clear(cluster: LocalCluster, keep_logs: bool = False) -> int:
    """End a cluster's processes and remove its files; the number of processes."""
    ended = end_family(cluster.mark, cluster.nodes, GRACE_SECONDS)
    shutil.rmtree(cluster.temp, ignore_errors=True)
    gone = [cluster.token_file, cluster.folder / "cluster.json"]
    for file in gone if keep_logs else [*gone, *cluster.folder.glob("node-*.log")]:
        file.unlink(missing_ok=True)
    return ended

"""Real clusters for tests: a head and further nodes as processes of their own, on this machine or as separate hosts.

Both kinds come as a :class:`Bench`: nodes can be killed, added, and the head restarted. Whatever a test does, all that
was started is ended. Client processes get ``bench.env`` as their whole environment.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from prunepeft_ray.cluster.local.nodes import node_states
from prunepeft_ray.cluster.local.start_stop import (
    add_node,
    start_head,
    start_local_cluster,
    stop_local_cluster,
    wait_for_head,
    wait_for_nodes,
)
from prunepeft_ray.cluster.local.state import LocalCluster
from prunepeft_ray.processes import MARK, Process, end_family, is_alive

ROOT = Path(__file__).parent.parent
FAST = {
    # a lost node is noticed within seconds
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_timeout_ms": "2000",
    # and a search soon does with fewer workers
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}


STORE_BYTES = 200 * 2**20
SPARE_HOSTS = 1
CARD = "host0"
"""Name of each host's network card."""


def ignore(_event) -> None:
    pass


def clean_environment(**changes: str) -> dict[str, str]:
    """A user's environment, without the settings for Ray that this process has."""
    return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | changes


def client_environment(env: dict[str, str], cluster: LocalCluster) -> dict[str, str]:
    """What a client needs to reach a cluster."""
    return env | {
        "RAY_API_SERVER_ADDRESS": cluster.address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(cluster.token_file),
    }


@contextmanager
def in_environment(env: dict[str, str]) -> Iterator[None]:
    """Be in an environment for the length of a call."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass
class Bench:
    """A cluster under test.

    Args:
        cluster: What runs; a node keeps its index when others die.
        env: Environment for client processes, and for its nodes.
        start: Starts the node of the next index and does not wait.
    """

    cluster: LocalCluster
    env: dict[str, str]
    start: Callable[[LocalCluster], LocalCluster]

    @property
    def address(self) -> str:
        return self.cluster.address

    @property
    def token_file(self) -> Path:
        return self.cluster.token_file

    def alive(self) -> int:
        """How many nodes the head believes alive."""
        return sum(node.state == "ALIVE" for node in node_states(self.cluster))

    def kill_node(self, index: int) -> None:
        """kill -9 everything of a node, the head's (0) too."""
        end_family(f"{self.cluster.mark}.{index}", heads=(), grace=0)

    def add_node(self) -> int:
        """Let one more node join; its index."""
        nodes = self.alive() + 1
        with in_environment(self.env):
            self.cluster = self.start(self.cluster)
        living = replace(self.cluster, nodes=tuple(filter(is_alive, self.cluster.nodes)))
        wait_for_nodes(living, nodes)
        return len(self.cluster.nodes) - 1

    def restart_head(self) -> None:
        """kill -9 the whole cluster, and start as many nodes anew at the same ports, with the same token."""
        end_family(self.cluster.mark, heads=(), grace=0)
        self.start_nodes(len(self.cluster.nodes))

    def start_nodes(self, count: int) -> None:
        """Start the head, then the others, and wait until all live."""
        with in_environment(self.env):
            self.cluster = self.start(replace(self.cluster, nodes=()))
            wait_for_head(self.cluster)
            for _ in range(1, count):
                self.cluster = self.start(self.cluster)
        wait_for_nodes(self.cluster, count)


@contextmanager
def running_cluster(state: Path, nodes: int = 3, cpus: int = 1) -> Iterator[Bench]:
    """A cluster on this machine, started and ended by the code behind ``prunepeft cluster``.

    Args:
        state: A folder for what is written down of it; clients find it by ``PRUNEPEFT_STATE``.
        nodes: How many, the head among them.
        cpus: CPUs of each.
    """

    def start(cluster: LocalCluster) -> LocalCluster:
        if cluster.nodes:
            return add_node(cluster, cpus, STORE_BYTES)
        return start_head(cluster, cpus, 0, STORE_BYTES)

    env = clean_environment(**FAST, PRUNEPEFT_STATE=str(state), PRUNEPEFT_TEST=uuid.uuid4().hex)
    with in_environment(env):
        cluster = start_local_cluster(nodes, cpus, 0, ignore)
    try:
        yield Bench(cluster, client_environment(env, cluster), start)
    finally:
        with in_environment(env):
            stop_local_cluster(ignore)
        # a test may have taken away what was written down
        end_family(cluster.mark, heads=(), grace=0)
        shutil.rmtree(cluster.temp, ignore_errors=True)


@contextmanager
def hosts(state: Path, nodes: int = 2, cpus: int = 1, hidden: Path | None = None) -> Iterator[Bench]:
    """A cluster of separate hosts: network namespaces with an address each, on a bridge.

    This machine is on the bridge too, so clients reach the head's address from here. The hosts share its disks.
    The test is skipped where namespaces cannot be made. One host is spare, for a node that joins.

    Args:
        state: A folder for the token and the nodes' logs.
        nodes: How many hosts, that of the head among them.
        cpus: CPUs of each.
        hidden: A folder of which each further host has an empty one of its own.
    """
    token_file = state / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(secrets.token_hex(32))
    with network(nodes) as network_hosts, tempfile.TemporaryDirectory(prefix="prunepeft-") as temp:
        head = network_hosts[0].address
        cluster = LocalCluster(
            address=f"http://{head}:8265",
            gcs=f"{head}:6379",
            token_file=token_file,
            nodes=(),
            folder=state,
            temp=Path(temp),
            mark=uuid.uuid4().hex,
        )

        def start(cluster: LocalCluster) -> LocalCluster:
            return start_on_host(network_hosts[len(cluster.nodes)], cluster, cpus, hidden)

        env = clean_environment(**FAST, PRUNEPEFT_STATE=str(state), PRUNEPEFT_TEST=uuid.uuid4().hex)
        bench = Bench(cluster, client_environment(env, cluster), start)
        try:
            bench.start_nodes(nodes)
            yield bench
        finally:
            end_family(cluster.mark, heads=(), grace=0)


@dataclass(frozen=True)
class Host:
    """A network namespace with its address."""

    name: str
    address: str


@contextmanager
def network(size: int) -> Iterator[list[Host]]:
    """Network namespaces on a bridge of this machine; a few spare ones for nodes that join later."""
    if reason := why_no_namespaces():
        pytest.skip(reason)
    tag = uuid.uuid4().hex[:6]
    net = f"10.{random.randrange(64, 128)}.{random.randrange(256)}"
    bridge, found = f"pp{tag}", [Host(f"pp{tag}h{i}", f"{net}.{i}") for i in range(1, size + 1 + SPARE_HOSTS)]
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("address", "add", f"{net}.254/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for host in found:
            ip("netns", "add", host.name)
            ip("link", "add", host.name, "type", "veth", "peer", "name", CARD, "netns", host.name)
            ip("link", "set", host.name, "master", bridge, "up")
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", CARD)
            ip("-n", host.name, "link", "set", CARD, "up")
            ip("-n", host.name, "link", "set", "lo", "up")
        yield found
    finally:
        for host in found:
            ip("netns", "delete", host.name, check=False)
            ip("link", "delete", host.name, check=False)
        ip("link", "delete", bridge, check=False)


def why_no_namespaces() -> str:
    """Why hosts cannot be made here; empty if they can."""
    name = f"pp{uuid.uuid4().hex[:6]}"
    try:
        ip("netns", "add", name)
        ip("netns", "exec", name, "true")
    except FileNotFoundError:
        return "separate hosts need the command ip (iproute2)"
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.strip()}"
    finally:
        with suppress(FileNotFoundError):
            ip("netns", "delete", name, check=False)
    return ""


def ip(*arguments: str, check: bool = True) -> None:
    """Run the command ip."""
    subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


def on_host(host: Host, command: list[str]) -> list[str]:
    """The command that runs another on a host."""
    return ["ip", "netns", "exec", host.name, *command]


def start_on_host(host: Host, cluster: LocalCluster, cpus: int, hidden: Path | None) -> LocalCluster:
    """Start the next node of a cluster on a host, as an administrator would on a machine."""
    index, address = len(cluster.nodes), host.address
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address", address, "--temp-dir", str(cluster.temp / str(index))]
    command += ["--num-cpus", str(cpus), "--num-gpus", "0", "--object-store-memory", str(STORE_BYTES)]
    if index:
        command += ["--address", cluster.gcs]
    else:
        command += ["--head", "--port", "6379", "--dashboard-host", address, "--dashboard-port", "8265"]
    if hidden and index:
        # the namespace of mounts is the node's own
        command = ["sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', str(hidden), *command]
    with cluster.log(index).open("ab") as output:
        child = subprocess.Popen(
            on_host(host, command),
            env={name: value for name, value in os.environ.items() if name != "RAY_API_SERVER_ADDRESS"}
            | {
                MARK: f"{cluster.mark}.{index}",
                "SPT_NOENV": "1",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(cluster.token_file),
                "RAY_USAGE_STATS_ENABLED": "0",
                # drivers of jobs are started as 'python'
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return replace(cluster, nodes=(*cluster.nodes, Process.of(child.pid)))

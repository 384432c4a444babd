"""The node and cluster that this process has joined; Ray is imported only when a function is called."""

from __future__ import annotations

import subprocess
from typing import Any

LOOPBACK = "127.0.0.1"


def keep_to_loopback(params: Any, _head: bool) -> None:
    """Let a node know this machine by 127.0.0.1 alone; ``ray start`` calls this by way of ``START_HOOK``.

    Ray has a switch for it, which the node's further processes inherit, but with it refuses to let a second node join.

    Args:
        params: Ray's parameters of the node that starts; changed.
    """
    from ray._private import ray_constants, services

    services.get_node_ip_address = lambda _address=None: LOOPBACK
    ray_constants.ENABLE_RAY_CLUSTER = True
    # one door fewer: jobs come in by the dashboard
    params.ray_client_server_port = None


def reread_settings() -> None:
    """Have Ray read the environment again: it does so when it is imported, which somebody may have done before us."""
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    ray_constants.ENABLE_RAY_CLUSTER = ray_constants.env_bool(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, False)
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def logs_folder() -> str:
    """The folder of logs of this node; the public API gives it to nobody."""
    from ray._private.worker import global_worker

    return str(global_worker.node.get_logs_dir_path())


def vital_processes() -> dict[str, subprocess.Popen[bytes]]:
    """Those of Ray's processes on this machine, by kind, without which nothing works; none if it only joined a cluster.

    Ray does not tell its driver that they have died: it ends the driver's process instead.
    """
    from ray._private.worker import _global_node as node

    if not node.is_head():
        return {}
    return {kind: own.process for kind in ("gcs_server", "raylet") for own in node.all_processes[kind]}


def head_address() -> tuple[str, int]:
    """Host and port at which the head node of the cluster answers."""
    from ray._private.worker import _global_node as node

    host, port = node.gcs_address.rsplit(":", 1)
    return host.strip("[]"), int(port)


def autoscaler_status() -> bytes:
    """What the autoscaler v1 has last written down in the cluster, as JSON; empty where there is none.

    The dashboard shows the same, but a driver cannot count on reaching that.
    """
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.experimental.internal_kv import _internal_kv_get

    return _internal_kv_get(DEBUG_AUTOSCALING_STATUS) or b""

"""A node of the local cluster, as a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prunepeft_ray.cluster.private_ray.node import LOOPBACK, keep_to_loopback
from prunepeft_ray.cluster.private_ray.wording import START_COMMAND, START_HOOK
from prunepeft_ray.processes import MARK, Process

_OF_OTHER_CLUSTERS = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_JOB_ID", "RAY_TMPDIR")


def start_node(arguments: list[str], *, mark: str, token_file: Path, log: Path) -> Process:
    """Start a node as a process that outlives this one, in its own session.

    Args:
        arguments: Arguments of ``ray start``, except those shared by all nodes.
        mark: Mark carried by all processes of the node (see :func:`~prunepeft_ray.processes.family`).
        token_file: File with the cluster's token.
        log: File for the output of the node's first process; its folder is the node's working directory.
    """
    command = [sys.executable, "-P", *START_COMMAND, "--block", "--disable-usage-stats"]
    command += ["--log-color", "false", "--node-ip-address", LOOPBACK]
    # 0 stands for any free port: nodes of one machine must not pick the same
    command += ["--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0"]
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*command, *arguments],
            env=_environment(mark, token_file),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Process.of(child.pid)


def _environment(mark: str, token_file: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _OF_OTHER_CLUSTERS}
    return kept | {
        MARK: mark,
        # Ray starts the drivers of jobs as 'python'
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        # otherwise the process titles that Ray sets overwrite the environment with the mark
        "SPT_NOENV": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        START_HOOK: f"{keep_to_loopback.__module__}.{keep_to_loopback.__name__}",
    }

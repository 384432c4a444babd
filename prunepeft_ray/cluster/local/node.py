"""One node of a cluster that keeps to this machine, as a process of its own."""

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
    """Start a node as a process that outlives this one, in a session of its own.

    Args:
        arguments: Those of ``ray start``, without what is the same for all nodes.
        mark: What tells its processes from all others (see ``family``).
        token_file: File of the cluster's token.
        log: File for what the node's first process prints; its folder is where the node runs.
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
        # drivers of jobs are started as 'python'
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        # or the names that Ray gives its processes overwrite the environment that shows the mark
        "SPT_NOENV": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        START_HOOK: f"{keep_to_loopback.__module__}.{keep_to_loopback.__name__}",
    }

"""Names and texts of Ray's own, which it may change at any time. No Ray here."""

from __future__ import annotations

import re

TEMPORARY_FOLDER = "_temp_dir"
"""Argument of ``ray.init`` for the folder of sockets and logs; ``ray start`` has the public ``--temp-dir``."""

HEAD_RESOURCE = "node:__internal_head__"
"""Resource that the head node alone has (``ray._common.constants.HEAD_NODE_RESOURCE_NAME``)."""

START_COMMAND = ("-m", "ray.scripts.scripts", "start")
"""``ray start`` by the module behind the command, for this interpreter: the command need not be on the path."""

START_HOOK = "RAY_START_HOOK"
"""Environment variable: a function that ``ray start`` calls with the node's parameters."""

VERSION_PATH = "/api/version"
NODES_PATH = "/api/v0/nodes"
LOG_FILE_PATH = "/api/v0/logs/file"
CLUSTER_STATUS_PATH = "/api/cluster_status"
"""Where the dashboard answers; its own client asks there too, but cannot be told how long to wait."""

CHATTY_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of the client of the job server that tell what we tell."""

TUNE_LOGGER = "ray.tune.tune"
"""Logger that ends a study with the list of trials that failed."""

SESSION_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # an actor whose warnings nobody reads: a node that goes is noticed when it is gone
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray prints a paragraph on standard output for every lost worker; we say it in a line
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
"""Environment variables of a process that joins a cluster, where the user has not set them."""

TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": str(10**9),
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""Environment variables that switch off what Tune keeps and prints of its own."""

_LOG_LINE = re.compile(
    r"(\x1b\[\d+m)?\((raylet|gcs_server|autoscaler)|\S+ \S+\s+INFO job_manager|Running entrypoint for "
)


def is_log_line(line: str) -> bool:
    """Whether a line of a job's log is Ray's own."""
    return _LOG_LINE.match(line) is not None


def says_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that Ray has killed a worker because its node was low on memory.

    ``OutOfMemoryError`` is public, but errors that wrap it carry its text alone.
    """
    return "low on memory" in str(error)


def says_already_submitted(error: BaseException) -> bool:
    """Whether the job server has refused a submission because there is a job of that id."""
    return "already exists" in str(error)

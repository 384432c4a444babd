"""Starting a Ray cluster on this machine, or joining one."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from prunepeft_ray.cluster.address import check_ray_address, find_ray
from prunepeft_ray.cluster.private_ray import node
from prunepeft_ray.cluster.private_ray.wording import SESSION_SETTINGS, TEMPORARY_FOLDER
from prunepeft_ray.cluster.ray_folder import ray_folder, remove_ray_folder
from prunepeft_ray.cluster.ray_thread import end_ray, start_ray
from prunepeft_ray.cluster.tokens import use_token
from prunepeft_ray.errors import RunError
from prunepeft_ray.processes import kill_descendants

CONNECT_SECONDS = 10
START_ATTEMPTS = 3
_LOOPBACK = re.compile(r"(127\.\d+\.\d+\.\d+|localhost|\[?::1\]?):\d+")

_own = False
"""Whether the cluster that this process has joined was started here, for it alone."""


@contextmanager
def ray_cluster(
    address: str | None, workers: int, packages: Mapping[str, Any] | None = None, exactly: bool = False
) -> Iterator[None]:
    """Join the cluster at an address, or start one on this machine and stop it afterwards.

    A cluster that this process has already joined is used as it is. A cluster that is started here listens only on the
    loopback interface, requires a token that nobody else knows, and leaves no files behind.

    Args:
        address: Address of a running cluster, such as ``"auto"`` or ``"ray://host:10001"``; None to start one.
        workers: Number of workers that a cluster started here must be able to hold.
        packages: Ray's runtime environment for the workers; it is merged into that of a Ray job.
        exactly: Whether a cluster started here must not hold more workers, although there are more CPUs.

    Raises:
        InputError: If the address is that of a dashboard, or a token file is configured and cannot be read.
        RunError: If the cluster cannot be reached or started.
    """
    _set_defaults()
    if address is not None:
        check_ray_address(address)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield
        return
    token_file = None
    if address is not None:
        address, token_file = find_ray(address)
    on_loopback = address is None or _LOOPBACK.fullmatch(address) is not None
    if on_loopback:
        # on Linux this switch is what makes Ray bind to 127.0.0.1; otherwise it replaces that by the machine's own
        # address, where a cluster that was started on the loopback interface does not listen
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if address is None:
        _require_token()
    else:
        use_token(token_file)
    if on_loopback and "ray" in sys.modules:
        node.reread_settings()
    global _own
    with ray_folder() if address is None else nullcontext() as folder:
        try:
            cpus = workers if exactly else max(os.cpu_count() or 1, workers)
            _join(address, _options(address, cpus, packages, folder))
            _own = address is None
            yield
        finally:
            _own = False
            end_ray()


def _set_defaults() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name, value in SESSION_SETTINGS.items():
        os.environ.setdefault(name, value)


def _options(address: str | None, cpus: int, packages: Mapping[str, Any] | None, folder: Path | None) -> dict[str, Any]:
    """Arguments of ``ray.init``."""
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    if address is None:
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False, TEMPORARY_FOLDER: str(folder)}
    else:
        options["address"] = address
    if packages:
        options["runtime_env"] = dict(packages)
    return options


def _join(address: str | None, options: dict[str, Any]) -> None:
    try:
        if address is not None:
            _check_reachable(address)
        _start(options, attempts=1 if address else START_ATTEMPTS)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        what = f"the Ray cluster at '{address}' cannot be reached" if address else "Ray cannot be started"
        raise RunError(f"{what}: {' '.join(str(error).split())[:200]}") from error
    logging.getLogger("ray").setLevel(logging.ERROR)


def is_joined() -> bool:
    """Whether this process has joined a cluster that others may use too."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized()) and not _own


def _start(options: dict[str, Any], attempts: int) -> None:
    import ray

    for attempt in range(1, attempts + 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start_ray(lambda: ray.init(**options), lambda: _remove_leftovers(options))
            return
        except Exception as error:
            # Ray raises a bare Exception if a node starts too slowly
            if not isinstance(error, RuntimeError) and type(error) is not Exception:
                raise
            # two clusters that start at the same time may pick the same free port
            end_ray()
            if attempt == attempts:
                raise RuntimeError(str(error)) from error


def _remove_leftovers(options: Mapping[str, Any]) -> None:
    # Ray's processes take a while to notice that their parent is gone
    kill_descendants()
    if TEMPORARY_FOLDER in options:
        remove_ray_folder(Path(options[TEMPORARY_FOLDER]).parent)


def _require_token() -> None:
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def logs_folder() -> str:
    """The log folder of this node of a cluster; call it in a process that the cluster has started."""
    with ray_cluster("auto", 0):
        return node.logs_folder()


def _check_reachable(address: str) -> None:
    """Raise an OSError if nothing listens at ``host:port``; Ray would retry for two minutes."""
    match = re.fullmatch(r"(?:ray://)?\[?([^/\]]+?)\]?:(\d{1,5})", address)
    if match:
        socket.create_connection((match[1], int(match[2])), timeout=CONNECT_SECONDS).close()

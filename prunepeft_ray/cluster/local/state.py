"""The record of the local cluster in the user's state folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunepeft_ray.errors import InputError
from prunepeft_ray.parsing import parse_json, read_small
from prunepeft_ray.processes import Process, is_alive
from prunepeft_ray.storage.paths import user_state

DOWN = "'prunepeft cluster down'"


@dataclass(frozen=True)
class LocalCluster:
    """A cluster that ``prunepeft cluster up`` has started.

    Args:
        address: Where it takes jobs: ``http://127.0.0.1:8265``.
        gcs: Where Ray's own processes meet: ``127.0.0.1:6379``.
        token_file: File of the token that it asks for.
        nodes: The first process of each node; the head comes first.
        folder: Where all this is written down, and the nodes' logs.
        temp: Ray's temporary folder.
        mark: What its processes bear in their environment, and no others.
    """

    address: str
    gcs: str
    token_file: Path
    nodes: tuple[Process, ...]
    folder: Path
    temp: Path
    mark: str

    @classmethod
    def read(cls, file: Path) -> LocalCluster:
        """Read what is written down of a cluster.

        Raises:
            InputError: If the file is damaged.
            OSError: If it cannot be read.
        """
        try:
            data: dict[str, Any] = parse_json(read_small(file))
            paths = {name: Path(data[name]) for name in ("token_file", "folder", "temp")}
            return cls(**data | paths | {"nodes": tuple(Process(**node) for node in data["nodes"])})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} is damaged ({error}): end the cluster by hand, then delete it") from error

    def save(self) -> None:
        """Write it down.

        Raises:
            OSError: If that cannot be.
        """
        file = self.folder / "cluster.json"
        unfinished = file.with_suffix(".tmp")
        unfinished.write_text(json.dumps(asdict(self), indent=2, default=str) + "\n", encoding="utf-8")
        unfinished.replace(file)

    def log(self, index: int) -> Path:
        """File of what a node's first process prints."""
        return self.folder / f"node-{index}.log"


def state_folder() -> Path:
    """Where the local cluster is written down.

    ``$PRUNEPEFT_STATE/cluster``, or ``prunepeft/cluster`` in ``$XDG_STATE_HOME`` or ``~/.local/state``.
    """
    return user_state() / "cluster"


def find_local_cluster() -> LocalCluster | None:
    """The cluster of this machine that ``prunepeft cluster up`` has started, if its head lives.

    Raises:
        InputError: If what is written down of it is damaged.
    """
    cluster = _written_down(state_folder())
    return cluster if cluster and cluster.nodes and is_alive(cluster.nodes[0]) else None


def _written_down(folder: Path) -> LocalCluster | None:
    file = folder / "cluster.json"
    try:
        return LocalCluster.read(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): mend it or set PRUNEPEFT_STATE") from error


def _check_ours(cluster: LocalCluster) -> None:
    """Make sure that a cluster's processes would be seen from here."""
    this = Process.this()
    for node in cluster.nodes:
        if (node.host, node.namespace) != (this.host, this.namespace):
            raise InputError(
                f"{cluster.folder} belongs to a cluster on {node.host}: type {DOWN} there, or set PRUNEPEFT_STATE to "
                "another folder here"
            )

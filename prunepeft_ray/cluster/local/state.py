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
    """A cluster started by ``prunepeft cluster up``.

    Args:
        address: Address of its dashboard and job server, such as ``http://127.0.0.1:8265``.
        gcs: Address of Ray's GCS server, which nodes join, such as ``127.0.0.1:6379``.
        token_file: File with the token that it requires.
        nodes: The first process of each node; the head comes first.
        folder: Folder with this record and the nodes' logs.
        temp: Ray's temporary folder.
        mark: Mark that exactly its processes carry in their environment.
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
        """Read the record of a cluster.

        Raises:
            InputError: If the file is damaged.
            OSError: If it cannot be read.
        """
        try:
            data: dict[str, Any] = parse_json(read_small(file))
            paths = {name: Path(data[name]) for name in ("token_file", "folder", "temp")}
            return cls(**data | paths | {"nodes": tuple(Process(**node) for node in data["nodes"])})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} is damaged ({error}): stop the cluster by hand, then delete the file") from error

    def save(self) -> None:
        """Write the record.

        Raises:
            OSError: If it cannot be written.
        """
        file = self.folder / "cluster.json"
        unfinished = file.with_suffix(".tmp")
        unfinished.write_text(json.dumps(asdict(self), indent=2, default=str) + "\n", encoding="utf-8")
        unfinished.replace(file)

    def log(self, index: int) -> Path:
        """File with the output of a node's first process."""
        return self.folder / f"node-{index}.log"


def state_folder() -> Path:
    """The folder with the record of the local cluster.

    ``$PRUNEPEFT_STATE/cluster``, or ``prunepeft/cluster`` in ``$XDG_STATE_HOME`` or ``~/.local/state``.
    """
    return user_state() / "cluster"


def find_local_cluster() -> LocalCluster | None:
    """The cluster that ``prunepeft cluster up`` started on this machine, if its head is running.

    Raises:
        InputError: If its record is damaged.
    """
    cluster = _read_record(state_folder())
    return cluster if cluster and cluster.nodes and is_alive(cluster.nodes[0]) else None


def _read_record(folder: Path) -> LocalCluster | None:
    file = folder / "cluster.json"
    try:
        return LocalCluster.read(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): fix it, or set PRUNEPEFT_STATE") from error


def _check_ours(cluster: LocalCluster) -> None:
    """Check that the processes of a cluster are visible from here."""
    this = Process.this()
    for node in cluster.nodes:
        if (node.host, node.namespace) != (this.host, this.namespace):
            raise InputError(
                f"{cluster.folder} belongs to a cluster on {node.host}: run {DOWN} there, or set PRUNEPEFT_STATE to "
                "another folder here"
            )

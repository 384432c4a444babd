"""Client of a Ray cluster's job server, over HTTP: submit, list, stop and follow Ray jobs, and list nodes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from prunepeft_ray.cluster.private_ray.autoscaling import is_autoscaled
from prunepeft_ray.cluster.private_ray.wording import (
    CHATTY_LOGGERS,
    CLUSTER_STATUS_PATH,
    LOG_FILE_PATH,
    NODES_PATH,
    VERSION_PATH,
    says_already_submitted,
)
from prunepeft_ray.cluster.tokens import HOW_TO_SET, Token
from prunepeft_ray.errors import InputError, RunError
from prunepeft_ray.text import error_line

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
MAX_NODES = 10_000
MAX_BYTES = 4 * 2**30
"""Maximum size of a response."""


@dataclass(frozen=True)
class NodeInfo:
    """A node of a cluster that is alive.

    Args:
        id: Ray's node id.
        host: Its IP address.
        is_head: Whether it is the head node.
        resources: Its total resources by name: ``CPU``, ``GPU`` and others.
        labels: Its Ray labels.
    """

    id: str
    host: str
    is_head: bool
    resources: dict[str, float]
    labels: dict[str, str]


class JobServer:
    """A cluster's job server.

    Args:
        address: ``http://HOST:8265``; the address of the cluster's dashboard.
        token: The cluster's token, if it requires one.

    Raises:
        InputError: If the address is invalid or not that of a Ray cluster, or the token is missing or wrong.
        RunError: If the cluster cannot be reached.
    """

    def __init__(self, address: str, token: Token | None) -> None:
        self.address = check_address(address)
        self._token = token
        self.ray_version: str = self._get(VERSION_PATH).get("ray_version", "")
        if not self.ray_version:
            raise self._no_ray()
        from ray.job_submission import JobSubmissionClient

        for name in CHATTY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._reaching():
            self._client = JobSubmissionClient(self.address, headers=self._headers)

    def submit(self, job: str, entrypoint: str, metadata: dict[str, str], runtime_env: dict[str, Any]) -> None:
        """Submit a Ray job; its driver runs on the head node and reserves no resources.

        Args:
            job: Submission id.
            entrypoint: Shell command.
            metadata: Stored with the Ray job.
            runtime_env: Ray's runtime environment; local folders in it are uploaded.

        Raises:
            InputError: If there already is a Ray job with that id.
        """
        with self._reaching():
            try:
                self._client.submit_job(
                    submission_id=job, entrypoint=entrypoint, metadata=metadata, runtime_env=runtime_env
                )
            except RuntimeError as error:
                if says_already_submitted(error):
                    raise InputError(f"the cluster already has a job '{job}'") from error
                raise

    def jobs(self) -> list[Any]:
        """All Ray jobs submitted since the head node started, as Ray's ``JobDetails``."""
        with self._reaching():
            return [job for job in self._client.list_jobs() if job.submission_id]

    def job(self, job: str) -> Any:
        """The Ray job with an id, as Ray's ``JobDetails``; None if there is none."""
        return next((found for found in self.jobs() if found.submission_id == job), None)

    def stop(self, job: str) -> None:
        """Ask a Ray job to stop, by SIGTERM."""
        with self._reaching():
            self._client.stop_job(job)

    def delete(self, job: str) -> None:
        """Delete the record of a Ray job that has ended."""
        with self._reaching():
            self._client.delete_job(job)

    def log(self, job: str) -> str:
        """Everything that a Ray job has printed so far."""
        with self._reaching():
            return str(self._client.get_job_logs(job))

    def follow(self, job: str) -> Iterator[str]:
        """Yield the output of a Ray job, piece by piece, until it ends."""
        with asyncio.Runner() as runner, self._reaching():
            pieces = self._client.tail_job_logs(job)
            try:
                while (piece := runner.run(_next(pieces))) is not None:
                    yield piece
            finally:
                runner.run(pieces.aclose())

    def log_end(self, job: Any, lines: int) -> str:
        """The last lines that a Ray job has printed; empty if its node is gone.

        Args:
            job: Ray's ``JobDetails``.
            lines: Number of lines.
        """
        if not job.driver_node_id:
            return ""
        name = f"job-driver-{job.submission_id}.log"
        return (self.log_file(job.driver_node_id, name, lines) or b"").decode(errors="replace")

    def log_file(self, node: str, name: str, lines: int = -1) -> bytes | None:
        """Read a file from the log folder of a node.

        Args:
            node: The node's id.
            name: The file's path in the log folder.
            lines: Read only this many lines from the end; -1 reads all.

        Returns:
            The content, or None if the file or the node does not exist.
        """
        code, content = self._ask(LOG_FILE_PATH, node_id=node, filename=name, lines=lines)
        return content if code == 200 else None

    def nodes(self) -> list[NodeInfo]:
        """All nodes that are alive."""
        found = self._get(NODES_PATH, detail=1, limit=MAX_NODES)["data"]["result"]["result"]
        return [
            NodeInfo(
                row["node_id"],
                row["node_ip"],
                bool(row["is_head_node"]),
                row["resources_total"],
                row.get("labels") or {},
            )
            for row in found
            if row["state"] == "ALIVE"
        ]

    def may_grow(self) -> bool:
        """Whether the cluster has an autoscaler, v1 or v2."""
        status = self._get(CLUSTER_STATUS_PATH).get("data", {}).get("clusterStatus") or {}
        return is_autoscaled(status.get("autoscalerReport") or {}, [node.labels for node in self.nodes()])

    @property
    def _headers(self) -> dict[str, str]:
        return dict(self._token.headers) if self._token else {}

    def _get(self, path: str, **parameters: Any) -> dict[str, Any]:
        code, content = self._ask(path, **parameters)
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._no_ray() from error
        if not isinstance(found, dict) or code != 200:
            raise self._no_ray()
        return found

    def _ask(self, path: str, **parameters: Any) -> tuple[int, bytes]:
        """Return status code and content of the response to a GET request."""
        import requests

        with (
            self._reaching(),
            requests.get(
                self.address + path,
                params=parameters,
                headers=self._headers,
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                stream=True,
            ) as answer,
        ):
            content = bytearray()
            for piece in answer.iter_content(2**20):
                content += piece
                if len(content) > MAX_BYTES:
                    raise RunError(f"the cluster at {self.address} sent more than {MAX_BYTES // 2**30} GiB")
        if answer.status_code in (401, 403):
            raise self._no_entry()
        return answer.status_code, bytes(content)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn exceptions of the client libraries into one clear line."""
        from aiohttp import ClientError
        from ray.exceptions import AuthenticationError
        from requests import RequestException

        try:
            yield
        except AuthenticationError as error:
            raise self._no_entry() from error
        except (RequestException, ClientError, ConnectionError) as error:
            raise RunError(
                f"no Ray cluster answers at {self.address} ({_why(error)}): check that it is running and that the port "
                "of its dashboard can be reached from here; jobs running on it are not affected"
            ) from error
        except RuntimeError as error:
            raise RunError(f"the cluster at {self.address} refused the request: {error_line(error)}") from error

    def _no_entry(self) -> InputError:
        if self._token is None:
            return InputError(f"the cluster at {self.address} requires a token, and none is set: {HOW_TO_SET}")
        return InputError(
            f"the cluster at {self.address} rejected the token from {self._token.source}: get the right one from "
            f"whoever runs the cluster; {HOW_TO_SET}"
        )

    def _no_ray(self) -> InputError:
        return InputError(
            f"--address {self.address}: not the dashboard of a Ray cluster; expected something like http://HEAD:8265"
        )


def check_address(address: str) -> str:
    """Normalise the address of a job server to ``http://HOST:PORT``.

    Raises:
        InputError: If the address is invalid.
    """
    text = address.strip().rstrip("/")
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        port = None
    if port is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path:
        raise InputError(f"--address {address}: expected the address of a Ray cluster's dashboard, http://HEAD:8265")
    return text


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


def _why(error: BaseException) -> str:
    """The innermost cause: the libraries wrap it in several layers of text."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    text = error_line(error)
    return text if text.isprintable() else "the response is not HTTP"

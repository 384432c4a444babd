"""The job server of a Ray cluster, over HTTP: submitting, listing, stopping and following jobs; and its nodes."""

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
from prunepeft_ray.text import one_line

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
MOST_NODES = 10_000
MOST_BYTES = 4 * 2**30
"""Most that is taken of one answer."""


@dataclass(frozen=True)
class NodeInfo:
    """A living node of a cluster.

    Args:
        id: Ray's id of it.
        host: Its address.
        is_head: Whether it is the head node.
        resources: What it has: ``CPU``, ``GPU`` and others by name.
        labels: Its labels.
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
        token: The cluster's token, if it asks for one.

    Raises:
        InputError: If the address is none, what answers is no Ray cluster, or the token is missing or wrong.
        RunError: If nobody answers.
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
        """Submit a job; its driver runs on the head node and sets no resources aside.

        Args:
            job: Its submission id.
            entrypoint: Shell command.
            metadata: Kept with it.
            runtime_env: Ray's runtime environment; local folders in it are uploaded.

        Raises:
            InputError: If there is a job of that id.
        """
        with self._reaching():
            try:
                self._client.submit_job(
                    submission_id=job, entrypoint=entrypoint, metadata=metadata, runtime_env=runtime_env
                )
            except RuntimeError as error:
                if says_already_submitted(error):
                    raise InputError(f"a job '{job}' is on the cluster already") from error
                raise

    def jobs(self) -> list[Any]:
        """All jobs that were submitted since the head node started, as Ray's ``JobDetails``."""
        with self._reaching():
            return [job for job in self._client.list_jobs() if job.submission_id]

    def job(self, job: str) -> Any:
        """One job, as Ray's ``JobDetails``; None if there is none of that id."""
        return next((found for found in self.jobs() if found.submission_id == job), None)

    def stop(self, job: str) -> None:
        """Ask a job to end, as SIGTERM does."""
        with self._reaching():
            self._client.stop_job(job)

    def delete(self, job: str) -> None:
        """Forget a job that has ended."""
        with self._reaching():
            self._client.delete_job(job)

    def log(self, job: str) -> str:
        """All that a job has printed."""
        with self._reaching():
            return str(self._client.get_job_logs(job))

    def follow(self, job: str) -> Iterator[str]:
        """Yield what a job prints, piece by piece, until it ends."""
        with asyncio.Runner() as runner, self._reaching():
            pieces = self._client.tail_job_logs(job)
            try:
                while (piece := runner.run(_next(pieces))) is not None:
                    yield piece
            finally:
                runner.run(pieces.aclose())

    def log_end(self, job: Any, lines: int) -> str:
        """The last lines of what a job has printed, or nothing if its node is gone.

        Args:
            job: Ray's ``JobDetails``.
            lines: How many lines.
        """
        if not job.driver_node_id:
            return ""
        name = f"job-driver-{job.submission_id}.log"
        return (self.log_file(job.driver_node_id, name, lines) or b"").decode(errors="replace")

    def log_file(self, node: str, name: str, lines: int = -1) -> bytes | None:
        """Read a file in a node's folder of logs.

        Args:
            node: The node's id.
            name: The file's path in that folder.
            lines: Read that many lines at the end only; -1 reads all.

        Returns:
            The content, or None if the file or the node is not there.
        """
        code, content = self._ask(LOG_FILE_PATH, node_id=node, filename=name, lines=lines)
        return content if code == 200 else None

    def nodes(self) -> list[NodeInfo]:
        """All living nodes."""
        found = self._get(NODES_PATH, detail=1, limit=MOST_NODES)["data"]["result"]["result"]
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
        """Whether an autoscaler, of its first or its second version, looks after the cluster."""
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
        """Status code and content of an answer."""
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
                if len(content) > MOST_BYTES:
                    raise RunError(f"the cluster at {self.address} answers with more than {MOST_BYTES // 2**30} GiB")
        if answer.status_code in (401, 403):
            raise self._no_entry()
        return answer.status_code, bytes(content)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what the client libraries raise into one clear line."""
        from aiohttp import ClientError
        from ray.exceptions import AuthenticationError
        from requests import RequestException

        try:
            yield
        except AuthenticationError as error:
            raise self._no_entry() from error
        except (RequestException, ClientError, ConnectionError) as error:
            raise RunError(
                f"no Ray cluster answers at {self.address} ({_why(error)}): see that it runs and that the port of its "
                "dashboard can be reached from here; jobs that run on it are not harmed"
            ) from error
        except RuntimeError as error:
            raise RunError(f"the cluster at {self.address} refuses: {one_line(error)}") from error

    def _no_entry(self) -> InputError:
        if self._token is None:
            return InputError(f"the cluster at {self.address} asks for a token, and none is set: {HOW_TO_SET}")
        return InputError(
            f"the cluster at {self.address} refuses the token from {self._token.source}: get the right one from who "
            f"runs the cluster; {HOW_TO_SET}"
        )

    def _no_ray(self) -> InputError:
        return InputError(
            f"--address {self.address}: what answers there is not the dashboard of a Ray cluster; expected something "
            "like http://HEAD:8265"
        )


def check_address(address: str) -> str:
    """Bring the address of a job server into the form ``http://HOST:PORT``.

    Raises:
        InputError: If it is none.
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
    """The innermost reason: the libraries wrap it in several layers of text."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    text = one_line(error)
    return text if text.isprintable() else "what answers is no web server"

"""A web server that answers like the dashboard of a Ray cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NODES = [
    ("a" * 56, "10.0.0.1", True, "ALIVE", {"CPU": 1.0}),
    ("b" * 56, "10.0.0.2", False, "DEAD", {"CPU": 8.0}),
    ("c" * 56, "10.0.0.3", False, "ALIVE", {"CPU": 2.0, "GPU": 1.0}),
]
KEYS = ("node_id", "node_ip", "is_head_node", "state", "resources_total")


def nodes_answer(nodes=NODES) -> dict:
    """What it says of nodes."""
    rows = [dict(zip(KEYS, row, strict=True)) for row in nodes]
    return {"data": {"result": {"result": rows}}}


def status_answer(*kinds: str) -> dict:
    """What it says of an autoscaler that has nodes of these types."""
    return {"data": {"clusterStatus": {"autoscalerReport": {"activeNodes": dict.fromkeys(kinds, 1)}}}}


@contextmanager
def answering(answers: dict[str, str], token: str | None = None) -> Iterator[str]:
    """A web server with those answers by path; anything else is not found."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            shown = self.headers.get("Authorization")
            if token is not None and shown != f"Bearer {token}":
                self.send_response(401 if shown is None else 403)
                self.end_headers()
                self.wfile.write(b"no")
                return
            self.send_response(200 if path in answers else 404)
            self.end_headers()
            self.wfile.write(answers.get(path, "not found").encode())

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ray_answers(**more: str) -> dict[str, str]:
    """The answers of a cluster that has little to say."""
    return {"/api/version": json.dumps({"ray_version": "2.60.0", "version": "4"})} | more

"""The pods of a cluster behind the HTTP of a Kubernetes API server, on loopback.

It lists and watches as the real one does (API concepts, "Efficient detection of changes"): versions,
bookmarks, 410 for a version that is too old, chunked events, `Status` objects for refusals.
"""

from __future__ import annotations

import copy
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "eyJhbGciOiJSUzI1NiJ9.c2VydmljZWFjY291bnQ.c2lnbmF0dXJl"
UID = "2f0d2d1c-8a9e-4f0a-9d0b-5c3f7c1b2a10"


def pod(
    name: str = "train-0-x7k2p",
    uid: str = UID,
    node: str = "node-1",
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    phase: str = "Running",
    user: int | None = None,
    exit_codes: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """A pod as the API shows it."""
    containers = [{"name": f"c{place}", "image": "train:1"} for place in range(len(exit_codes or (0,)))]
    status: dict[str, Any] = {"phase": phase, "hostIP": "192.0.2.7", "qosClass": "Burstable"}
    if exit_codes is not None:
        status["containerStatuses"] = [
            {"name": f"c{place}", "state": {"terminated": {"exitCode": code, "reason": "Completed"}}}
            for place, code in enumerate(exit_codes)
        ]
    return {
        "metadata": {
            "name": name,
            "namespace": "ml",
            "uid": uid,
            "resourceVersion": "1",
            "labels": {"batch.kubernetes.io/job-name": "train", "job-name": "train"} | (labels or {}),
            "annotations": {"carbonmon.io/run-id": "train-7"} if annotations is None else annotations,
        },
        "spec": {
            "nodeName": node,
            "containers": containers,
            "securityContext": {} if user is None else {"runAsUser": user},
        },
        "status": status,
    }


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    """A refusal as the API words it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


class ApiServer:
    """`refusal` answers all requests; versions before `oldest` are not known any more."""

    def __init__(self, pods: tuple[dict[str, Any], ...] = (), context: ssl.SSLContext | None = None) -> None:
        self.refusal: dict[str, Any] | None = None
        self.oldest = 0
        self.watches = 0
        self.lists = 0
        self.tokens: list[str] = []
        self._pods = {each["metadata"]["uid"]: each for each in pods}
        self._events: list[tuple[int, str, dict[str, Any]]] = []
        self._version = 100
        self._changed = threading.Condition()
        self._cut = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        scheme = "http" if context is None else "https"
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def __enter__(self) -> ApiServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def put(self, document: dict[str, Any]) -> None:
        """A pod is new or has changed."""
        with self._changed:
            uid = document["metadata"]["uid"]
            self._note("MODIFIED" if uid in self._pods else "ADDED", document)
            self._pods[uid] = document

    def remove(self, uid: str, quietly: bool = False) -> None:
        """A pod is deleted; `quietly`: as a server's memory shows it that is behind, without an event."""
        with self._changed:
            document = self._pods.pop(uid)
            if not quietly:
                self._note("DELETED", document)

    def bookmark(self) -> None:
        """Tell every watch how far it is."""
        with self._changed:
            self._note("BOOKMARK", {"metadata": {}})

    def send(self, kind: str, document: dict[str, Any]) -> None:
        """Tell every watch anything."""
        with self._changed:
            self._note(kind, document)

    def cut(self) -> None:
        """End every watch, as the server does after a while."""
        with self._changed:
            self._cut += 1
            self._changed.notify_all()

    def _note(self, kind: str, document: dict[str, Any]) -> None:
        self._version += 1
        event = copy.deepcopy({"kind": "Pod", "apiVersion": "v1", **document})
        if kind != "ERROR":
            event["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, kind, event))
        self._changed.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                server.tokens.append(token)
                if url.path != "/api/v1/pods":
                    self._answer(404, status(404, "NotFound", "the server could not find the resource"))
                elif server.refusal is not None:
                    self._answer(server.refusal["code"], server.refusal)
                elif token != TOKEN:
                    self._answer(401, status(401, "Unauthorized", "Unauthorized"))
                elif query.get("watch") == "1":
                    server.watches += 1
                    self._watch(query)
                else:
                    server.lists += 1
                    self._list(query)

            def _list(self, query: dict[str, str]) -> None:
                node = query["fieldSelector"].removeprefix("spec.nodeName=")
                with server._changed:
                    items = [each for each in server._pods.values() if each["spec"]["nodeName"] == node]
                    meta = {"resourceVersion": str(server._version)}
                    self._answer(
                        200, {"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": items}
                    )

            def _watch(self, query: dict[str, str]) -> None:
                version = int(query["resourceVersion"])
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                if version < server.oldest:
                    text = f"too old resource version: {version} ({server.oldest})"
                    self._event("ERROR", status(410, "Expired", text))
                else:
                    self._events(version, query["fieldSelector"].removeprefix("spec.nodeName="))
                self.wfile.write(b"0\r\n\r\n")

            def _events(self, version: int, node: str) -> None:
                cut = server._cut
                while True:
                    with server._changed:
                        new = [event for event in server._events if event[0] > version]
                        if not new:
                            if server._cut != cut:
                                return
                            server._changed.wait(0.5)
                            continue
                    version = new[-1][0]
                    for _, kind, document in new:
                        if document.get("spec", {}).get("nodeName", node) == node:
                            self._event(kind, document)

            def _event(self, kind: str, document: dict[str, Any]) -> None:
                line = json.dumps({"type": kind, "object": document}).encode() + b"\n"
                half = len(line) // 2  # a chunk is no event
                for part in (line[:half], line[half:]):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()

            def _answer(self, code: int, document: dict[str, Any]) -> None:
                text = json.dumps(document).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        return Handler


def until(holds: Any, what: str, deadline_s: float = 20.0) -> None:
    """Poll until something holds."""
    end_s = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.01)

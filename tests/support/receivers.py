"""An HTTP server on loopback that takes what is sent to it, or does what a test wants it to do instead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, TypeVar

DEADLINE_S = 10.0

Value = TypeVar("Value")


class Received(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Keeps what it says yes to; GET gives back the newest bodies of all paths that begin with its own.

    `status` and `answer` are what each request gets, `asked` how many there were. While `open` is not set,
    nobody gets an answer.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.asked = 0
        self.status = 200
        self.answer = b""
        self.open = threading.Event()
        self.open.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            do_PUT = do_POST  # noqa: N815

            def do_GET(self) -> None:
                newest = {request.path: request.body for request in receiver.received}
                bodies = [body for path, body in newest.items() if path.startswith(self.path)]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"".join(bodies))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", "0"))
        body = handler.rfile.read(length)
        if not self.open.wait(60.0):
            return
        self.asked += 1
        if 200 <= self.status < 300:
            self.received.append(Received(handler.command, handler.path, dict(handler.headers), body))
        try:
            handler.send_response(self.status)
            handler.end_headers()
            handler.wfile.write(self.answer)
        except OSError:  # whoever asked has lost patience
            return

    def wait_for(self, count: int) -> list[Received]:
        """The requests, once there are so many."""
        eventually(lambda: len(self.received) >= count, f"{count} requests")
        return self.received

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def eventually(find: Callable[[], Value], what: str) -> Value:
    """Poll until `find` gives something true; fails after a deadline."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        found = find()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come within {DEADLINE_S} s")

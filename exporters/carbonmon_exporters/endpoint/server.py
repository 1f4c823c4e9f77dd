"""An HTTP server for few and simple requests, with limits against slow clients and many connections.

The server of the standard library has no read timeout and no limit on connections, wakes up twice a
second, asks the name service for its own host's name and writes to stderr. This one uses its parser
and its WSGI handler for what is no plain GET (`library_request.py`), and replaces the rest. What answers is
loaded at the first connection: a run that nobody scrapes needs none of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.connections import OpenConnections
from carbonmon_exporters.endpoint.rate_limits import client_key

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from carbonmon_exporters.endpoint.request import Handler

_log = logging.getLogger(__name__)

READ_TIMEOUT_S = 5.0
IDLE_TIMEOUT_S = 330.0
"""How long a connection is kept for the next request. Prometheus closes one that was idle for 300 s itself
(its client library, common/config 0.65), and asks for each target at least as often."""

MAX_CONNECTIONS = 32
MAX_CONNECTIONS_PER_CLIENT = 24
_STACK_BYTES = 512 * 1024
_BACKOFF_S = 1.0
_CLOSE_S = 0.5
_SWITCH_S = 0.001
_BACKLOG = 256


class MetricsServer:
    """Serves one WSGI application; listens when created, answers when started.

    One thread waits for connections and wakes for nothing else; each connection has a thread, in which also
    its TLS handshake is made. All are daemon threads, so that no client delays the exit.
    """

    def __init__(
        self,
        address: tuple[str, int],
        load_app: Callable[[], WSGIApplication],
        policy: AccessPolicy | None = None,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        max_connections: int = MAX_CONNECTIONS,
        listening: socket.socket | None = None,
    ) -> None:
        """`load_app` is called once, at the first connection. `listening` is a socket that another process
        has bound to the address; else one is made. Raises OSError."""
        self.socket = _listen(*address) if listening is None else listening
        self.socket.setblocking(False)  # another process may have the same socket, and be faster
        name = self.socket.getsockname()
        self.server_name, self.server_port = str(name[0]), int(name[1])
        self.read_timeout_s = read_timeout_s
        self.idle_timeout_s = idle_timeout_s
        self.policy = policy or AccessPolicy()
        self.connections = OpenConnections(max_connections, min(max_connections, MAX_CONNECTIONS_PER_CLIENT))
        self._load_app = load_app
        self._handler: Callable[[socket.socket, Any, MetricsServer], Handler] | None = None
        self._has_failed = False
        self._closing = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="carbonmon-metrics", daemon=True)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.base_environ = {
            "SERVER_NAME": self.server_name,
            "SERVER_PORT": str(self.server_port),
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SCRIPT_NAME": "",
        }

    def start(self) -> None:
        # The longest time that a thread waits for one that computes: a sample must not wait 5 ms, which is
        # the default, for a scrape.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_S))
        self._acceptor.start()

    def stop_accepting(self) -> None:
        """Take no more connections: they wait for another process that has the listening socket."""
        self._closing.set()
        os.eventfd_write(self._wake, 1)
        if self._acceptor.ident is not None:
            self._acceptor.join(timeout=_CLOSE_S)

    def close(self, timeout_s: float = _CLOSE_S) -> None:
        """Stop listening, wait for the answers in progress, close all connections; may be called again."""
        if self._wake < 0:
            return
        self.stop_accepting()
        os.close(self._wake)
        self._wake = -1
        self.socket.close()
        self.connections.close_all(timeout_s)

    def _accept(self) -> None:
        waiting = select.poll()
        waiting.register(self.socket, select.POLLIN)
        waiting.register(self._wake, select.POLLIN)
        while True:
            waiting.poll()
            if self._closing.is_set():
                return
            try:
                connection, peer = self.socket.accept()
            except BlockingIOError:  # the client has gone, or another process was faster
                continue
            except OSError as error:
                _log.debug("accepting a connection failed: %s", error)
                self._closing.wait(_BACKOFF_S)  # out of file descriptors: do not loop without a pause
                continue
            if not self.policy.allow_connection(peer[0]) or not self._is_loaded():
                connection.close()
            elif self.connections.add(connection, client_key(peer[0])):
                self._start_thread(connection, peer)
            else:
                if not self.policy.is_tls:
                    _send_unavailable(connection)
                connection.close()

    def _is_loaded(self) -> bool:
        """Load what answers, if that is not done yet; False where it cannot be loaded."""
        if self._handler is None:
            try:
                from carbonmon_exporters.endpoint.request import Handler

                self.app = self._load_app()
            # The job may have replaced packages of this environment meanwhile, with whatever result: then
            # nobody is answered, and the monitor goes on.
            except Exception as error:  # noqa: BLE001
                if not self._has_failed:
                    _log.warning("the metrics cannot be served: %s: %s", type(error).__name__, error)
                self._has_failed = True
                return False
            self._handler = Handler
        return True

    def _start_thread(self, connection: socket.socket, peer: Any) -> None:
        thread = threading.Thread(
            target=self._serve, args=(connection, peer), name="carbonmon-scrape", daemon=True
        )
        usual = threading.stack_size(_STACK_BYTES)
        try:
            thread.start()
        except RuntimeError as error:  # the limit of threads is reached
            _log.debug("no thread for a connection: %s", error)
            self._close(connection)
        finally:
            threading.stack_size(usual)

    def _serve(self, connection: socket.socket, peer: Any) -> None:
        try:
            # The end of an answer would wait for the client's acknowledgement of what came before it.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert self._handler is not None
            self._handler(connection, peer, self).handle()
        except OSError as error:  # too slow, closed by either side, or without the right certificate
            _log.debug("a connection ended early: %s", error)
        # A bug in the handling of one request ends that request and writes nothing to the job's terminal.
        except Exception:  # noqa: BLE001
            _log.debug("a request failed", exc_info=True)
        finally:
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        connection.close()
        self.connections.remove(connection)


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    """The family and the address of a host to listen at, "" for every address; raises OSError."""
    family, _, _, _, bound = socket.getaddrinfo(
        # A host in bytes spares Python's IDNA tables, a quarter of a megabyte.
        (host.encode() if host.isascii() else host) or None,
        port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )[0]
    return family, str(bound[0])  # its port is cut to 16 bits: no error for 99999


def _listen(host: str, port: int) -> socket.socket:
    """Bind without a lookup of the host's own name, which may ask a name server and hang."""
    family, bound = resolve(host, port)
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((bound, port))
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _send_unavailable(connection: socket.socket) -> None:
    """Send status 503 before the connection is closed; never waits."""
    from carbonmon_exporters.endpoint.request import refusal

    with contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(refusal(503, (("Retry-After", "1"),)))
        connection.shutdown(socket.SHUT_WR)

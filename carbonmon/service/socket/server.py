"""The monitor's local socket: one thread that reads requests, checks them and lets a handler answer.

An invalid message is answered with the error, and the monitor goes on. A sender of too many messages is not
read for a second, and blocks on its own full buffer; one that does not read its answers is disconnected.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from carbonmon.client.protocol import MAX_MESSAGE_BYTES
from carbonmon.client.rendezvous import credentials
from carbonmon.core.pacing import TokenBucket
from carbonmon.service.socket.listener import MAX_CONNECTIONS, Listener, connection_limit
from carbonmon.service.socket.peer import RATE_HZ, Peer, RateExceeded
from carbonmon.service.socket.request import FaultLog, Handler, handle_line, send_error
from carbonmon.service.socket.users import Users

log = logging.getLogger(__name__)

ACCEPTED_HZ, ACCEPTED_BURST = 4000.0, 4.0 * MAX_CONNECTIONS
"""Connections of all users that are looked at in a second, and at once: whose it is is known only then. A
full queue of the kernel (1,024) is read in a quarter of a second."""

_GATHER_S = 0.005
"""After a refusal the next connections wait so long for one another: to wake up for each costs more than all
the rest of it."""

_TURN = 64
_PAUSE_S = 1.0
_CLOSE_S = 5.0


class ControlServer:
    """Listens at `path` for our own user and root, or for `everyone` whom `mode` allows."""

    def __init__(self, path: Path, handler: Handler, mode: int = 0o600, everyone: bool = False) -> None:
        self.path = path
        self.max_connections = connection_limit()
        self._handler = handler
        self._mode, self._everyone = mode, everyone
        self._peers: set[Peer] = set()
        self._users = Users(everyone)
        self._with_output: set[Peer] = set()
        self._output_lock = threading.Lock()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._accepted = TokenBucket(ACCEPTED_HZ, ACCEPTED_BURST, time.monotonic())
        self._fault_log = FaultLog()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="carbonmon-control", daemon=True)

    def start(self) -> None:
        """Start to listen and answer; raises `ConfigError`."""
        self._listener = Listener(self.path, self._mode, 0o755 if self._everyone else 0o700)
        self._wake_socket, self._wake_end = socket.socketpair()
        self._wake_socket.setblocking(False)
        self._wake_end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener.socket, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_end, selectors.EVENT_READ, self._drain_wakeups)
        self._thread.start()

    def close(self) -> None:
        """Send what can be sent at once, and stop; the handler's `on_disconnect` is not called."""
        if self._closing or not self._thread.ident:
            return
        self._closing = True
        self._wake_thread()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closing:
            wait_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _ in self._selector.select(wait_s):
                self._call_safely(key.data)
            due = []
            while self._timers and self._timers[0][0] <= time.monotonic():
                due.append(heapq.heappop(self._timers)[2])
            for call in due:  # one that is scheduled again now waits for the others' turn
                self._call_safely(call)
            with self._output_lock:
                with_output, self._with_output = self._with_output, set()
            for peer in with_output:
                self._call_safely(partial(self._flush, peer))
        self._listener.close()
        for peer in self._peers:
            peer.flush()
            peer.close()
        self._selector.close()
        self._wake_socket.close()
        self._wake_end.close()

    def _call_safely(self, call: Callable[[], None]) -> None:
        try:
            call()
        # A bug with one peer must not end the service for the others.
        except Exception as error:  # noqa: BLE001
            self._fault_log.log_error(error)
            time.sleep(0.01)  # and must not become a busy loop if it recurs

    def _wake_thread(self) -> None:
        with suppress(OSError):  # full: the thread will wake; closed: it has ended
            self._wake_socket.send(b"\0")

    def _drain_wakeups(self) -> None:
        with suppress(BlockingIOError):
            self._wake_end.recv(4096)

    def _on_output(self, peer: Peer) -> None:
        """A peer has output to send; from any thread."""
        with self._output_lock:
            self._with_output.add(peer)
        if threading.current_thread() is not self._thread:
            self._wake_thread()

    def _schedule(self, delay_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), call))

    def _accept(self) -> None:
        refuses = False
        for _ in range(_TURN):
            wait_s = self._accepted.take(time.monotonic())
            if wait_s:
                self._accept_later(wait_s, "too many connections a second")
                return
            try:
                connection, _ = self._listener.socket.accept()
            except BlockingIOError:
                break
            except ConnectionError:  # it has gone
                continue
            except OSError as error:  # no file descriptors are left, which must not become a busy loop
                self._accept_later(_PAUSE_S, error)
                return
            refuses |= not self._admit(connection)
        if refuses:
            self._accept_later(_GATHER_S, "some were refused")

    def _accept_later(self, wait_s: float, reason: object) -> None:
        log.debug("no connection is accepted for %g s: %s", wait_s, reason)
        self._selector.unregister(self._listener.socket)
        self._schedule(wait_s, self._listen)

    def _admit(self, connection: socket.socket) -> bool:
        """Let a connection in, or close it with the reason."""
        known = credentials(connection)
        user = self._users.enter(known[1], self.max_connections)
        if isinstance(user, bytes):
            with suppress(OSError):  # it has gone, without waiting for the reason
                connection.send(user, socket.MSG_DONTWAIT)
            connection.close()
            return False
        connection.setblocking(False)
        peer = Peer(connection, known, user.messages, self._on_output)
        self._peers.add(peer)
        self._watch(peer)
        try:
            peer.pidfd = os.pidfd_open(peer.pid)
            self._selector.register(peer.pidfd, selectors.EVENT_READ, partial(self._on_process_ended, peer))
        except ProcessLookupError:
            self._on_process_ended(peer)
        except OSError:  # another pid namespace, an old kernel, or no more files: then the socket shows it
            pass
        return True

    def _listen(self) -> None:
        self._selector.register(self._listener.socket, selectors.EVENT_READ, self._accept)

    def _on_ready(self, peer: Peer) -> None:
        """A peer has sent something, or reads again."""
        if peer.is_behind:
            self._flush(peer)
        if peer.closed or peer.paused:
            return
        received = peer.receive()
        if received:
            self._handle_messages(peer)
        elif received == 0:
            if peer.incomplete_bytes:
                size = peer.incomplete_bytes
                send_error(peer, f"the connection ended inside a message, {size} bytes after its begin")
            self._drop(peer)

    def _handle_messages(self, peer: Peer, turn: int = _TURN) -> None:
        """Handle received messages of a peer: at most `turn` at a time, and as far as its rate allows."""
        try:
            for _ in range(turn):
                line = None if peer.closed else peer.next_line()
                if line is None:
                    return
                if len(line) > MAX_MESSAGE_BYTES:
                    send_error(peer, f"the message is too long: at most {MAX_MESSAGE_BYTES} bytes are read")
                else:
                    handle_line(self._handler, peer, line, self._fault_log)
        except RateExceeded:
            send_error(peer, f"too many messages: {RATE_HZ:g} a second are read, the others have to wait")
            self._pause(peer, _PAUSE_S)
        else:
            self._pause(peer, 0.0)

    def _pause(self, peer: Peer, wait_s: float) -> None:
        peer.paused = True
        self._watch(peer)
        self._schedule(wait_s, partial(self._resume, peer))

    def _resume(self, peer: Peer) -> None:
        if not peer.closed:
            peer.paused = False
            self._handle_messages(peer)
            self._watch(peer)

    def _on_process_ended(self, peer: Peer) -> None:
        """The process has ended: its messages are still handled, but no child may keep the connection."""
        while not peer.closed and not peer.paused and peer.receive():
            self._handle_messages(peer, MAX_MESSAGE_BYTES)
        self._drop(peer)

    def _flush(self, peer: Peer) -> None:
        if peer.closed:
            return
        if peer.flush():
            self._watch(peer)
        else:
            log.debug("process %d does not read its answers and is dropped", peer.pid)
            self._drop(peer)

    def _watch(self, peer: Peer) -> None:
        """Select the peer's socket: for reading unless it is paused, for writing if it has unsent output."""
        events = 0 if peer.paused else selectors.EVENT_READ
        if peer.is_behind:
            events |= selectors.EVENT_WRITE
        if events == peer.events or peer.closed:
            return
        if not events:
            self._selector.unregister(peer.connection)
        elif not peer.events:
            self._selector.register(peer.connection, events, partial(self._on_ready, peer))
        else:
            self._selector.modify(peer.connection, events, partial(self._on_ready, peer))
        peer.events = events

    def _drop(self, peer: Peer) -> None:
        if peer.closed:
            return
        peer.flush()
        if peer.events:
            self._selector.unregister(peer.connection)
        if peer.pidfd is not None:
            with suppress(KeyError):
                self._selector.unregister(peer.pidfd)
        peer.close()
        self._peers.discard(peer)
        self._users.leave(peer.uid)
        self._handler.on_disconnect(peer)

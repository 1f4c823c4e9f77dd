"""The monitor's local socket: one thread that reads requests, checks them and lets a handler answer.

Whatever comes in, the sender hears what was wrong, and the monitor goes on: one who says too much is not read
for a second and is held up by its own full buffer; one who does not read is dropped.
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
from carbonmon.service.socket.peer import BURST, RATE_HZ, Peer, TooFast
from carbonmon.service.socket.request import Faults, Handler, complain, serve

log = logging.getLogger(__name__)

_USER_FACTOR = 8.0
"""All connections of a user together may say so many times what one of them may."""
_TURN = 64
_PAUSE_S = 1.0
_CLOSE_S = 5.0


class ControlServer:
    """Listens at `path` for our own user and root, or for `everyone` whom `mode` lets in."""

    def __init__(self, path: Path, handler: Handler, mode: int = 0o600, everyone: bool = False) -> None:
        self.path = path
        self.max_connections = connection_limit()
        self._handler = handler
        self._mode, self._everyone = mode, everyone
        self._peers: set[Peer] = set()
        self._users: dict[int, TokenBucket] = {}
        self._waiting: set[Peer] = set()
        self._waiting_lock = threading.Lock()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._arrivals = TokenBucket(RATE_HZ, 2 * MAX_CONNECTIONS, time.monotonic())
        self._faults = Faults()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="carbonmon-control", daemon=True)

    def start(self) -> None:
        """Listen, and answer from now on; raises `ConfigError`."""
        self._listener = Listener(self.path, self._mode, 0o755 if self._everyone else 0o700)
        self._alarm, self._alarm_end = socket.socketpair()
        self._alarm.setblocking(False)
        self._alarm_end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener.socket, selectors.EVENT_READ, self._accept)
        self._selector.register(self._alarm_end, selectors.EVENT_READ, self._hush)
        self._thread.start()

    def close(self) -> None:
        """Send what is queued as far as it can be sent at once, and stop; the handler hears of no `gone`."""
        if self._closing or not self._thread.ident:
            return
        self._closing = True
        self._ring()
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closing:
            wait_s = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _ in self._selector.select(wait_s):
                self._guarded(key.data)
            due = []
            while self._timers and self._timers[0][0] <= time.monotonic():
                due.append(heapq.heappop(self._timers)[2])
            for call in due:  # one that comes back at once waits for the others' turn
                self._guarded(call)
            with self._waiting_lock:
                waiting, self._waiting = self._waiting, set()
            for peer in waiting:
                self._guarded(partial(self._flush, peer))
        self._listener.close()
        for peer in self._peers:
            peer.flush()
            peer.close()
        self._selector.close()
        self._alarm.close()
        self._alarm_end.close()

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        # A fault with one peer must not end the service for the others.
        except Exception as error:  # noqa: BLE001
            self._faults.note(error)
            time.sleep(0.01)  # and must not become a busy loop if it stays

    def _ring(self) -> None:
        with suppress(OSError):  # full: it rings already; closed: nobody listens any more
            self._alarm.send(b"\0")

    def _hush(self) -> None:
        with suppress(BlockingIOError):
            self._alarm_end.recv(4096)

    def _wake(self, peer: Peer) -> None:
        """A peer has something to be sent; from any thread."""
        with self._waiting_lock:
            self._waiting.add(peer)
        if threading.current_thread() is not self._thread:
            self._ring()

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), call))

    def _accept(self) -> None:
        try:
            if self._arrivals.take(time.monotonic()):
                raise OSError("too many connections a second")
            connection, _ = self._listener.socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # also: no file descriptors are left, which must not become a busy loop
            log.debug("no connection is accepted for %g s: %s", _PAUSE_S, error)
            self._selector.unregister(self._listener.socket)
            self._later(_PAUSE_S, self._listen)
            return
        connection.setblocking(False)
        known = credentials(connection)
        full = TokenBucket(_USER_FACTOR * RATE_HZ, _USER_FACTOR * BURST, time.monotonic())
        shared = self._users.setdefault(known[1], full)
        peer = Peer(connection, known, shared, self._wake)
        refusal = self._refusal(peer)
        if refusal:
            complain(peer, refusal)
            peer.flush()
            peer.close()
            return
        self._peers.add(peer)
        self._watch(peer)
        try:
            peer.pidfd = os.pidfd_open(peer.pid)
            self._selector.register(peer.pidfd, selectors.EVENT_READ, partial(self._ended, peer))
        except ProcessLookupError:
            self._ended(peer)
        except OSError:  # another pid namespace, an old kernel, or no more files: its end shows by the socket
            pass

    def _listen(self) -> None:
        self._selector.register(self._listener.socket, selectors.EVENT_READ, self._accept)

    def _refusal(self, peer: Peer) -> str:
        own = os.geteuid()
        if not self._everyone and peer.uid not in (own, 0):
            return f"this monitor belongs to user {own}; user {peer.uid} may not speak to it"
        if len(self._peers) >= self.max_connections:
            return f"this monitor has {self.max_connections} connections, and can have no more"
        theirs = sum(each.uid == peer.uid for each in self._peers)
        if peer.uid not in (own, 0) and theirs >= self.max_connections // 2:
            return f"user {peer.uid} has {theirs} connections to this monitor, and can have no more"
        return ""

    def _serve(self, peer: Peer) -> None:
        """A peer has said something, or reads again."""
        if peer.is_behind:
            self._flush(peer)
        if peer.closed or peer.paused:
            return
        heard = peer.receive()
        if heard:
            self._work(peer)
        elif heard == 0:
            if peer.torn_bytes:
                complain(
                    peer, f"the connection ended inside a message, {peer.torn_bytes} bytes after its begin"
                )
            self._drop(peer)

    def _work(self, peer: Peer, turn: int = _TURN) -> None:
        """Serve what was heard from a peer: so many messages in one turn, and as far as its rate allows."""
        try:
            for _ in range(turn):
                line = None if peer.closed else peer.next_line()
                if line is None:
                    return
                if len(line) > MAX_MESSAGE_BYTES:
                    complain(peer, f"the message is too long: at most {MAX_MESSAGE_BYTES} bytes are read")
                else:
                    serve(self._handler, peer, line, self._faults)
        except TooFast:
            complain(peer, f"too many messages: {RATE_HZ:g} a second are read, the rest has to wait")
            self._pause(peer, _PAUSE_S)
        else:
            self._pause(peer, 0.0)

    def _pause(self, peer: Peer, wait_s: float) -> None:
        peer.paused = True
        self._watch(peer)
        self._later(wait_s, partial(self._resume, peer))

    def _resume(self, peer: Peer) -> None:
        if not peer.closed:
            peer.paused = False
            self._work(peer)
            self._watch(peer)

    def _ended(self, peer: Peer) -> None:
        """The process has ended: what it said still counts, but no child of it may hold the connection."""
        while not peer.closed and not peer.paused and peer.receive():
            self._work(peer, MAX_MESSAGE_BYTES)
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
        """Wait for what a peer is able to do: to be heard unless it is paused, to hear if it is behind."""
        events = 0 if peer.paused else selectors.EVENT_READ
        if peer.is_behind:
            events |= selectors.EVENT_WRITE
        if events == peer.events or peer.closed:
            return
        if not events:
            self._selector.unregister(peer.connection)
        elif not peer.events:
            self._selector.register(peer.connection, events, partial(self._serve, peer))
        else:
            self._selector.modify(peer.connection, events, partial(self._serve, peer))
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
        self._handler.gone(peer)

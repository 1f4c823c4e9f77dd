"""Sends snapshots to another machine in a thread of its own: a network that hangs holds up nobody else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from carbonmon.core.errors import CarbonmonError, ConfigError
from carbonmon.core.model import Snapshot
from carbonmon.core.records import NamedTuple

_log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""How long one answer is waited for, and how long the end of the job waits for the last of them."""

RETRY_S = 1.0
"""After so long the last of all is tried once more; what others miss, the next one brings."""

CLOSE_TIMEOUT_S = 1.0


class Parcel(NamedTuple):
    """A snapshot on its way; the last one of a monitor may find runs in it that go on without it."""

    snapshot: Snapshot
    is_last: bool


class Pusher:
    """Sends the newest of what it is given; what waits is replaced by what is newer.

    `send` raises for what did not arrive: `check` raises the same for as long as that is so.
    """

    def __init__(self, name: str, send: Callable[[Parcel], object]) -> None:
        self._send = send
        self._changed = threading.Condition()
        self._waiting: Parcel | None = None
        self._is_busy = False
        self._is_closed = False
        self._trouble = ""
        self._thread = threading.Thread(target=self._loop, name=f"carbonmon-{name}", daemon=True)

    def offer(self, parcel: Parcel) -> None:
        """Send this soon, instead of what waits. Raises CarbonmonError if there is no thread for it."""
        if self._is_closed:
            raise CarbonmonError("nothing can be sent any more: its thread has ended")
        with self._changed:
            self._waiting = parcel
            self._changed.notify_all()
        if self._thread.ident is None:
            try:
                self._thread.start()
            except RuntimeError as error:  # no more threads for this user
                raise CarbonmonError(f"nothing can be sent: {error}") from error

    def check(self) -> None:
        """Raise CarbonmonError if what was sent last did not arrive."""
        if self._trouble:
            raise CarbonmonError(self._trouble)

    def finish(self, parcel: Parcel, timeout_s: float = TIMEOUT_S) -> None:
        """Send this as the last one. Raises CarbonmonError if it does not arrive in time."""
        self.offer(parcel)
        with self._changed:
            is_sent = self._changed.wait_for(lambda: self._waiting is None and not self._is_busy, timeout_s)
        if not is_sent:
            raise CarbonmonError(f"the last totals could not be delivered within {timeout_s:.0f} s")
        self.check()

    def close(self) -> None:
        """End the thread; one that hangs in the network is left behind, as a daemon."""
        with self._changed:
            self._is_closed = True
            self._waiting = None
            self._changed.notify_all()
            is_idle = not self._is_busy
        if is_idle and self._thread.ident is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._is_closed)
                parcel, self._waiting = self._waiting, None
                if parcel is None:
                    return
                self._is_busy = True
            trouble = self._attempt(parcel)
            if trouble and parcel.is_last:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed, RETRY_S)
                trouble = self._attempt(parcel)
            with self._changed:
                self._trouble = trouble
                self._is_busy = False
                self._changed.notify_all()

    def _attempt(self, parcel: Parcel) -> str:
        """Why the parcel did not arrive, "" if it did."""
        try:
            self._send(parcel)
        except (CarbonmonError, OSError) as error:
            return str(error) or type(error).__name__
        # Our own bug, or a library's: the next snapshot is tried all the same.
        except Exception as error:  # noqa: BLE001
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self._trouble:
                _log.warning("a snapshot could not be sent", exc_info=True)
            return trouble
        return ""


def checked_url(exporter: str, argument: str, example: str, secrets: str) -> str:
    """The user's address of a server, without a slash at its end; `secrets` says where passwords belong.

    Raises ConfigError for anything but a plain http or https URL. Its text never shows a password.
    """
    if not argument:
        raise ConfigError(f"--exporter: {exporter} needs an address: give for example {exporter}:{example}")
    try:
        url = urlsplit(argument)
        has_user, port = "@" in url.netloc, url.port
    except ValueError:
        has_user, port = "@" in argument, 0
    if has_user:
        raise ConfigError(f"--exporter: leave user and password out of the address of {exporter}; {secrets}")
    if (
        port == 0
        or url.scheme not in ("http", "https")
        or not url.hostname
        or url.query
        or url.fragment
        or not argument.isprintable()
        or " " in argument
    ):
        raise ConfigError(
            f"--exporter: {argument!r:.200} is not an address; give for example {exporter}:{example}"
        )
    return argument.rstrip("/")

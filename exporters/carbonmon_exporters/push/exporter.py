"""What exporters that push share: when they send, in which thread, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable

from carbonmon.core.model import Snapshot
from carbonmon_exporters.push.pace import Pace
from carbonmon_exporters.push.pusher import Parcel, Pusher


class PushingExporter:
    """Sends snapshots when a run begins or ends, every 15 s, and the last one.

    A subclass says how, in `_send`, which runs in a thread of its own and raises for what did not arrive.
    """

    name: str
    verb: str

    def __init__(self, url: str, timeout_s: float) -> None:
        """`timeout_s` is how long the end of the job waits for the last totals."""
        self._url = url
        self._timeout_s = timeout_s
        self._pace = Pace()
        self._pusher = Pusher(self.name, self._send)
        self._latest: Callable[[], Snapshot] | None = None

    def start(self, latest: Callable[[], Snapshot]) -> str:
        """Where the totals go; nothing is sent before the first checkpoint."""
        self._latest = latest
        return f"{self.verb} to {self._url}"

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Send soon if it is time; raises CarbonmonError while the server takes nothing."""
        chosen = self._pace.choose(snapshot, snapshot if self._latest is None else self._latest())
        if chosen is not None:
            self._pusher.offer(Parcel(chosen, is_last=False))
        self._pusher.check()

    def finish(self, final: Snapshot) -> None:
        """Send the last totals; raises CarbonmonError if they do not arrive in time."""
        self._pusher.finish(Parcel(final, is_last=True), self._timeout_s)

    def close(self) -> None:
        """End the thread. What was sent stays where it is: it is looked at after the job's end."""
        self._pusher.close()

    def _send(self, parcel: Parcel) -> None:
        raise NotImplementedError

"""Finds the daemon that serves at a socket, and ends it: the socket knows whose process listens there."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from carbonmon.client.connection import ANSWER_S, MonitorConnection, Refused
from carbonmon.client.protocol import ProtocolError
from carbonmon.client.rendezvous import connect, credentials
from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple

CONNECT_S = 2.0
STOP_S = 30.0
"""How long a daemon may take to end: it writes a checkpoint of each run."""

_LOOK_S = 0.05


class Serving(NamedTuple):
    """A monitor that answers at a socket. `pid` is 0 where its process cannot be seen from here."""

    socket: Path
    pid: int
    uid: int
    status: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def is_daemon(self) -> bool:
        """Releases until 0.2 do not say it; their other monitors listen at sockets of another name."""
        return bool(self.status.get("daemon", not self.socket.name.startswith("run-")))


class OfAnother(Exception):
    """The daemon is another user's, who alone may do this; the text says whose."""


def find(sockets: Sequence[Path]) -> Serving | None:
    """The first monitor that answers at one of the sockets, None without one.

    Raises `ConfigError` where one is there and does not say how it is, `OfAnother` where it is not for us.
    """
    for path in sockets:
        try:
            connected = connect(path, CONNECT_S)
        except PermissionError as error:
            raise OfAnother(str(error)) from None
        except OSError:
            continue
        pid, uid, _ = credentials(connected)
        connection = MonitorConnection(path, connected, {})
        try:
            status, told = (connection.request({"op": op}, ANSWER_S) for op in ("status", "settings"))
        except (OSError, Refused, ProtocolError) as error:
            raise ConfigError(f"the monitor at {path} (process {pid}) does not answer: {error}") from None
        finally:
            connection.close()
        return Serving(path, pid, uid, status, told.get("settings") or {})
    return None


def stop(serving: Serving, within_s: float = STOP_S) -> bool:
    """End a daemon as SIGTERM does, and wait until it is gone; False if it is not in time.

    Raises `ConfigError` where it must be ended in another way, `OfAnother` for another user's.
    """
    if not serving.is_daemon:
        raise ConfigError(f"the monitor at {serving.socket} is that of a job, and ends with it")
    unit = serving.status.get("unit")
    if unit is not None:
        raise ConfigError(f"it is a service of systemd: systemctl stop {unit or 'carbonmon'}")
    if not serving.pid:
        raise ConfigError("its process is in another container, and cannot be seen from here: end it there")
    try:
        process = os.pidfd_open(serving.pid)
    except ProcessLookupError:
        return True
    except OSError:  # before Linux 5.3: its number may be another process's by now, if it has just ended
        process = None
    try:
        if process is None:
            os.kill(serving.pid, signal.SIGTERM)
        else:
            signal.pidfd_send_signal(process, signal.SIGTERM)
        return _is_gone(serving.pid, process, time.monotonic() + within_s)
    except ProcessLookupError:
        return True
    except PermissionError:
        raise OfAnother(f"the daemon at {serving.socket} belongs to user {serving.uid}") from None
    finally:
        if process is not None:
            os.close(process)


def _is_gone(pid: int, process: int | None, deadline_s: float) -> bool:
    if process is not None:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline_s - time.monotonic()) * 1e3))
    while time.monotonic() < deadline_s:
        with suppress(PermissionError):
            os.kill(pid, 0)  # ProcessLookupError: it is gone
        time.sleep(_LOOK_S)
    return False

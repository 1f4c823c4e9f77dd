"""Joins the run of this process: finds its monitor, or starts one.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from carbonmon.client import launcher
from carbonmon.client.connection import MonitorConnection, Refused
from carbonmon.client.notebook import notebook_name
from carbonmon.client.protocol import GPU_VARIABLES, RUN_VARIABLE, SOCKET_VARIABLE, ProtocolError
from carbonmon.client.rendezvous import (
    connect,
    connect_or_start,
    daemon_sockets,
    run_socket,
    start_monitor,
)
from carbonmon.client.surrounding_run import find_surrounding_run
from carbonmon.core.errors import ConfigError

CONNECT_S = 1.0
JOIN_S = 5.0
START_S = 20.0
"""Long enough to start Python and NVML from a network file system without a cache."""

MAX_TEXT = 200
_MAX_COMMAND = 16_384
_AGAIN_S = 0.05
_MAX_STARTS = 2

_start_failed = False


class RunOptions(NamedTuple):
    """The arguments of `track`, as texts."""

    name: str | None = None
    region: str | None = None
    run_id: str | None = None
    labels: dict[str, str] | None = None


class JoinedRun(NamedTuple):
    """A run that this process has joined; id and folder are None where the monitor did not send them."""

    connection: MonitorConnection
    run_id: str | None
    folder: str | None


class NoMonitor(Exception):
    """No monitor measures this run; the text says why."""


def short_text(value: object) -> str:
    """Anything as a text of at most 200 characters that can be written as UTF-8 and passed to a process."""
    try:
        text = str(value)
    # The object's own __str__ may raise anything, and must not end a training run.
    except Exception:  # noqa: BLE001
        text = f"<{type(value).__name__}>"
    return text[:MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "?")


def join_run(options: RunOptions, environ: Mapping[str, str]) -> JoinedRun:
    """Join the run that this process belongs to; raises `NoMonitor`.

    The monitor is the one of the run that we are in already (`carbonmon run`, or a parent that tracks, by the
    environment or else by our parents), else the node's daemon, else one that the processes of the run start
    together.
    """
    launch = launcher.read_launch(environ)
    run_id = options.run_id or launch.run_id
    key = options.run_id or launch.key or launcher.run_key(environ)
    message = _message(options, launch, environ) | {"run_id": run_id or key, "named": run_id is not None}
    if options.run_id is None:
        message["key"] = key
    reasons: list[str] = []
    if environ.get(SOCKET_VARIABLE):
        path = Path(environ[SOCKET_VARIABLE])
        try:
            return _join_at(path, message | {"run_id": environ.get(RUN_VARIABLE) or run_id, "key": None})
        except (OSError, Refused) as error:
            reasons.append(f"{SOCKET_VARIABLE}={path}: {error}")
    around = find_surrounding_run(environ)
    if around is not None:
        try:
            return _join_at(around[0], message | {"run_id": around[1], "key": None})
        except (OSError, Refused) as error:  # it has just ended
            reasons.append(f"{around[0]}: {error}")
    for path in daemon_sockets(environ):
        joined = _join_daemon(path, message, reasons)
        if joined is not None:
            return joined
    try:
        return _join_run_monitor(run_socket(key, environ), message | {"run_id": run_id}, options, environ)
    except (OSError, Refused, ProtocolError, ConfigError) as error:
        raise NoMonitor("; ".join([*reasons, str(error)])) from None


def _join_at(path: Path, message: dict[str, Any]) -> JoinedRun:
    return _joined(path, connect(path, CONNECT_S), message, JOIN_S)


def _join_daemon(path: Path, message: dict[str, Any], reasons: list[str]) -> JoinedRun | None:
    try:
        return _join_at(path, message)
    except Refused as error:
        reasons.append(f"the daemon at {path}: {error}")
    except OSError:
        pass  # no daemon there, or none for us
    return None


def _join_run_monitor(
    path: Path, message: dict[str, Any], options: RunOptions, environ: Mapping[str, str]
) -> JoinedRun:
    """Join by the socket that the processes of this run share; retry if its monitor is about to end."""
    region = {} if options.region is None else {"CARBONMON_REGION": options.region}
    deadline_s = time.monotonic() + START_S
    starts = 0

    def start(timeout_s: float) -> None:
        global _start_failed
        nonlocal starts
        starts += 1
        if _start_failed:
            raise ConfigError("no monitor could be started before in this process")
        try:
            start_monitor(path, (), {**environ, **region}, timeout_s)
        except ConfigError:
            _start_failed = True  # a function that is tracked at each call must not wait each time
            raise

    while True:
        left_s = deadline_s - time.monotonic()
        try:
            return _joined(path, connect_or_start(path, start, left_s), message, max(JOIN_S, left_s))
        except (ConnectionError, Refused) as error:
            if (isinstance(error, Refused) and not error.retry) or starts > _MAX_STARTS or left_s < 1.0:
                raise
        time.sleep(_AGAIN_S)


def _joined(path: Path, connected: socket.socket, message: dict[str, Any], timeout_s: float) -> JoinedRun:
    connection = MonitorConnection(path, connected, message)
    try:
        answer = connection.request(message, timeout_s)
    except BaseException:
        connection.close()
        raise
    run_id, folder = answer.get("run_id"), answer.get("folder")
    connection.join_message = message | {"run_id": run_id or message["run_id"], "key": None}
    return JoinedRun(connection, run_id and str(run_id), folder and str(folder))


def _message(options: RunOptions, launch: launcher.Launch, environ: Mapping[str, str]) -> dict[str, Any]:
    """The join message, without the fields that are unknown."""
    fields = {
        "name": options.name or notebook_name(environ),
        "labels": options.labels,
        "command": _command(),
        "environ": {name: environ[name] for name in GPU_VARIABLES if name in environ},
        "default_id": launcher.default_id(environ, time.time()),
        **launch._asdict(),
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return {"op": "join", **known}


def _command() -> list[str]:
    """The command line of this process, cut to the length that a message can hold."""
    arguments: list[str] = []
    left = _MAX_COMMAND
    given = list(getattr(sys, "argv", ()))
    module = getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None)
    if isinstance(module, str) and module != "__main__":  # `python -m`: argv has the module's file instead
        given[:1] = ["-m", module.removesuffix(".__main__")]
    for argument in (sys.executable or "python", *given):
        text = str(argument).encode("utf-8", "replace").decode()
        left -= len(text) + 3
        if left < 0:
            return [*arguments, "…"]
        arguments.append(text)
    return arguments

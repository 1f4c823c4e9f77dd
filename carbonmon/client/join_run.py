"""Joins the run of this process: finds its monitor, or starts one.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from carbonmon.client import choices, launcher
from carbonmon.client.connection import MonitorConnection, Refused
from carbonmon.client.protocol import GPU_VARIABLES, RUN_VARIABLE, SOCKET_VARIABLE, ProtocolError
from carbonmon.client.rendezvous import (
    connect,
    connect_or_start,
    daemon_sockets,
    run_socket,
    start_monitor,
)
from carbonmon.core.errors import ConfigError
from carbonmon.core.ways import Choice, is_true

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
    """A run that this process has joined; id and folder are None where the monitor did not send them.

    `answer` is the monitor's to the join; `is_started`: this process has started the monitor.
    """

    connection: MonitorConnection
    run_id: str | None
    folder: str | None
    answer: Mapping[str, Any]
    is_started: bool = False


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

    The monitor is the one of the run that we are in already (`carbonmon run`, or a parent that tracks), else
    the node's daemon, else one that the processes of the run start together. One warning names the options
    that it does not follow.
    """
    chosen = choices.of_track(options._asdict(), environ)
    joined = _join(options, chosen, environ)
    if joined.is_started:  # with the same environment
        chosen = [choice for choice in chosen if choice.option.belongs_to not in ("monitor", "output", "own")]
    around = environ.get(SOCKET_VARIABLE) if environ.get(RUN_VARIABLE) else None
    is_inside = os.fspath(joined.connection.path) == around
    choices.tell(joined.connection, joined.answer, chosen, is_inside=is_inside)
    return joined


def _join(options: RunOptions, chosen: Sequence[Choice], environ: Mapping[str, str]) -> JoinedRun:
    texts = {choice.option.name: choice.text for choice in chosen}
    launch = launcher.read_launch(environ)
    run_id = texts.get("run-id") or launch.run_id
    message = _message(texts, launch, environ) | {"named": run_id is not None}
    is_alone = is_true(texts.get("own-monitor", "")) and not environ.get(RUN_VARIABLE)
    reasons: list[str] = []
    if environ.get(SOCKET_VARIABLE) and not is_alone:
        path = Path(environ[SOCKET_VARIABLE])
        try:
            return _join_at(path, message | {"run_id": environ.get(RUN_VARIABLE) or run_id})
        except (OSError, Refused) as error:
            reasons.append(f"{SOCKET_VARIABLE}={path}: {error}")
    key = run_id or launcher.run_key(environ)
    for path in [] if is_alone else daemon_sockets(environ):
        joined = _join_daemon(path, message | {"run_id": key}, reasons)
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
    if options.region is not None:  # it goes before the environment's choice of either
        environ = {name: value for name, value in environ.items() if name != "CARBONMON_INTENSITY"}
        environ["CARBONMON_REGION"] = options.region
    deadline_s = time.monotonic() + START_S
    starts = 0

    def start(timeout_s: float) -> None:
        global _start_failed
        nonlocal starts
        starts += 1
        if _start_failed:
            raise ConfigError("no monitor could be started before in this process")
        try:
            start_monitor(path, (), environ, timeout_s)
        except ConfigError:
            _start_failed = True  # a function that is tracked at each call must not wait each time
            raise

    while True:
        left_s = deadline_s - time.monotonic()
        try:
            joined = _joined(path, connect_or_start(path, start, left_s), message, max(JOIN_S, left_s))
            return joined._replace(is_started=starts > 0)
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
    connection.join_message = message | {"run_id": run_id or message["run_id"]}
    return JoinedRun(connection, run_id and str(run_id), folder and str(folder), answer)


def _message(texts: Mapping[str, str], launch: launcher.Launch, environ: Mapping[str, str]) -> dict[str, Any]:
    """The join message, without the fields that are unknown; `texts` are the options that were chosen."""
    command, name = _command(), texts.get("name")
    if is_true(texts.get("redact-command", "")):
        name = name or Path(command[-1] if len(command) < 2 else command[1]).stem
        command = [command[0], "…"]
    fields = {
        "name": name,
        "labels": choices.labels_in(texts["label"]) if texts.get("label") else None,
        "gpus": texts["gpus"].replace(" ", "").split(",") if texts.get("gpus") else None,
        "idle": texts.get("idle"),
        "command": command,
        "environ": {name: environ[name] for name in GPU_VARIABLES if name in environ},
        **launch._asdict(),
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return {"op": "join", **known}


def _command() -> list[str]:
    """The command line of this process, cut to the length that a message can hold."""
    arguments: list[str] = []
    left = _MAX_COMMAND
    for argument in (sys.executable or "python", *getattr(sys, "argv", ())):
        text = str(argument).encode("utf-8", "replace").decode()
        left -= len(text) + 3
        if left < 0:
            return [*arguments, "…"]
        arguments.append(text)
    return arguments

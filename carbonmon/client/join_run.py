"""Joins the run of this process: finds its monitor, or starts one.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from carbonmon.client import choices, launcher
from carbonmon.client.connection import MonitorConnection, Refused, warn_once
from carbonmon.client.notebook import notebook_name
from carbonmon.client.protocol import (
    GPU_VARIABLES,
    RUN_VARIABLE,
    SEEN_VARIABLE,
    SOCKET_VARIABLE,
    ProtocolError,
)
from carbonmon.client.rendezvous import (
    connect,
    connect_or_start,
    daemon_sockets,
    run_socket,
    start_monitor,
)
from carbonmon.client.surrounding_run import find_surrounding_run
from carbonmon.client.switch import is_off
from carbonmon.core import labels
from carbonmon.core.errors import ConfigError
from carbonmon.core.ways import Choice, is_false, is_true

CONNECT_S = 1.0
JOIN_S = 5.0
START_S = 20.0
"""Long enough to start Python and NVML from a network file system without a cache."""

MAX_TEXT = 200
_MAX_COMMAND = 16_384
_AGAIN_S = 0.05
_MAX_STARTS = 2

_start_failed = False

_open: MonitorConnection | None = None
"""The connection of a run that has ended to a monitor that waits a little for the next one. It ends at once
when this process does."""


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

    The monitor is the one of the run that we are in already (`carbonmon run`, or a parent that tracks, by the
    environment or else by our parents), else the node's daemon, else one that the processes of the run start
    together. One warning names the options that it does not follow.
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
    key = texts.get("run-id") or launch.key or launcher.run_key(environ)
    message = _message(texts, launch, environ) | {"run_id": run_id or key, "named": run_id is not None}
    if not texts.get("run-id"):
        message["key"] = key
    is_alone = is_true(texts.get("own-monitor", "")) and not environ.get(RUN_VARIABLE)
    reasons: list[str] = []
    if environ.get(SOCKET_VARIABLE) and not is_alone:
        path = Path(environ[SOCKET_VARIABLE])
        try:
            return _join_at(path, message | {"run_id": environ.get(RUN_VARIABLE) or run_id, "key": None})
        except (OSError, Refused) as error:
            reasons.append(f"{SOCKET_VARIABLE}={path}: {error}")
    around = None if is_alone else find_surrounding_run(environ)
    if around is not None:
        try:
            return _join_at(around[0], message | {"run_id": around[1], "key": None})
        except (OSError, Refused) as error:  # it has just ended
            reasons.append(f"{around[0]}: {error}")
    for path in [] if is_alone else daemon_sockets(environ):
        joined = _join_daemon(path, message, reasons)
        if joined is not None:
            return joined
    try:
        return _join_run_monitor(run_socket(key, environ), message | {"run_id": run_id}, options, environ)
    except (OSError, Refused, ProtocolError, ConfigError) as error:
        raise NoMonitor("; ".join([*reasons, str(error)])) from None


def join_again(run_id: str | None, environ: Mapping[str, str]) -> JoinedRun | None:
    """Take part as a helper in the run that the environment names; None where that is another one or none.

    A helper holds no run open. Raises OSError, `Refused` and `ProtocolError`.
    """
    path = environ.get(SOCKET_VARIABLE)
    if not path or not run_id or environ.get(RUN_VARIABLE) != run_id or is_off(environ):
        return None
    message = {"op": "join", "run_id": run_id, "helper": True}
    return _join_at(Path(path), message)


def keep_open(connection: MonitorConnection) -> None:
    """Keep the connection of a run that has ended, for the next one."""
    global _open
    if _open is not None:
        _open.close()
    _open = connection


def forget_open() -> None:
    """After a fork: it is the parent's."""
    global _open
    if _open is not None:
        _open.abandon()
        _open = None


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
    message = message | {"settings": _settings(environ)}
    joined = _join_open(path, message)
    if joined is not None:
        return joined
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


def _join_open(path: Path, message: dict[str, Any]) -> JoinedRun | None:
    """Begin the next run with the monitor of the one before, if it is at `path` and still takes it."""
    global _open
    connection, _open = _open, None
    if connection is None:
        return None
    if connection.path == path and connection.is_connected:
        connection.join_message = message
        with suppress(OSError, Refused, ProtocolError):  # then as if it had not been there
            return _joined_over(connection, message, JOIN_S)._replace(is_started=True)
    connection.close()
    return None


def _settings(environ: Mapping[str, str]) -> str:
    """A checksum of all that a monitor is started with: it takes no run that asks for other choices."""
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    files = (environ.get("CARBONMON_CONFIG"), "carbonmon.toml", f"{home}/carbonmon/carbonmon.toml")
    chosen = sorted(
        (name, value)
        for name, value in environ.items()
        if name.startswith("CARBONMON_") and name not in (SOCKET_VARIABLE, RUN_VARIABLE, SEEN_VARIABLE)
    )
    said: list[object] = [chosen]
    with suppress(OSError):
        said.append(Path.cwd())  # where results go, unless they have a place
    for file in files:
        with suppress(OSError, ValueError):  # there is no such file, or the path has a zero in it
            status = os.stat(file or "")  # noqa: PTH116 (the same without the import of a Path for each)
            said.append((file, status.st_mtime_ns, status.st_size))
    text = repr(said).encode("utf-8", "replace")
    return f"{zlib.crc32(text):08x}-{zlib.adler32(text):08x}-{len(text)}"


def _joined(path: Path, connected: socket.socket, message: dict[str, Any], timeout_s: float) -> JoinedRun:
    return _joined_over(MonitorConnection(path, connected, message), message, timeout_s)


def _joined_over(connection: MonitorConnection, message: dict[str, Any], timeout_s: float) -> JoinedRun:
    try:
        answer = connection.request(message, timeout_s)
    except BaseException:
        connection.close()
        raise
    run_id, folder = answer.get("run_id"), answer.get("folder")
    connection.join_message = message | {"run_id": run_id or message["run_id"], "key": None}
    return JoinedRun(connection, run_id and str(run_id), folder and str(folder), answer)


def _message(texts: Mapping[str, str], launch: launcher.Launch, environ: Mapping[str, str]) -> dict[str, Any]:
    """The join message, without the fields that are unknown; `texts` are the options that were chosen."""
    command, name = _command(), texts.get("name")
    if not is_false(texts.get(choices.REDACT, "")):  # what is not clearly "no" keeps a secret
        program = command[2:3] if command[1:2] == ["-m"] else command[1:2]
        name = name or Path((program or command)[0]).stem
        command = [command[0], "…"]
    fields = {
        "name": name or notebook_name(environ),
        "labels": _labels(choices.labels_in(texts["label"])) if texts.get("label") else None,
        "gpus": texts["gpus"].replace(" ", "").split(",") if texts.get("gpus") else None,
        "idle": texts.get("idle"),
        "command": command,
        "environ": {name: environ[name] for name in GPU_VARIABLES if name in environ},
        "default_id": launcher.default_id(environ, time.time()),
        **launch._asdict(),
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return {"op": "join", **known}


def _labels(given: dict[str, str]) -> dict[str, str]:
    taken = [key for key in given if labels.is_reserved(key)]
    if taken:
        warn_once(
            "reserved",
            "carbonmon: the labels %r are left out: the metrics have these names already; choose others",
            taken,
        )
    free = {key: text for key, text in given.items() if key not in taken}
    kept = labels.that_fit(free)
    if len(kept) < len(free):
        warn_once(
            "labels",
            "carbonmon: the labels from %r on are left out: a run has room for %d bytes",
            list(free)[len(kept)],
            labels.MAX_BYTES,
        )
    return kept


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

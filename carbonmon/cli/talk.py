"""One request of a command to a monitor's socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from carbonmon.client.connection import ANSWER_S, MonitorConnection, Refused
from carbonmon.client.protocol import SOCKET_VARIABLE, ProtocolError
from carbonmon.client.rendezvous import connect, daemon_sockets


def ask(
    op: str, message: Mapping[str, Any], path: Path | None, timeout_s: float = ANSWER_S
) -> dict[str, Any]:
    """The answer of the monitor at `path`, else of the node's daemon; raises `click.ClickException`."""
    return ask_all([{"op": op, **message}], path, timeout_s)[0]


def daemon_output() -> Path:
    """The folder of the runs of the daemon that CARBONMON_SOCKET names, as for runs, else of the node's.

    Raises `click.ClickException` where none answers. In a job the variable names the job's own monitor.
    """
    told = os.environ.get(SOCKET_VARIABLE)
    path = Path(told) if told and not Path(told).name.startswith("run-") else None
    return Path(ask("settings", {}, path)["settings"]["output"])


def ask_all(
    messages: Sequence[Mapping[str, Any]],
    path: Path | None,
    timeout_s: float = ANSWER_S,
    then: Callable[[MonitorConnection, list[dict[str, Any]]], object] = lambda *_: None,
) -> list[dict[str, Any]]:
    """The answers to several messages over one connection; what is None in a message is left out.

    `then` gets the connection and the answers before it is closed.
    """
    known = [{key: value for key, value in message.items() if value is not None} for message in messages]
    reasons = []
    for place in daemon_sockets() if path is None else [path]:
        try:
            connection = MonitorConnection(place, connect(place, 2.0), {})
        except OSError as error:
            reasons.append(f"{place}: {error.strerror or error}")
            continue
        try:
            answers = [connection.request(message, timeout_s) for message in known]
            then(connection, answers)
        except (OSError, Refused, ProtocolError) as error:
            raise click.ClickException(str(error)) from None
        else:
            return answers
        finally:
            connection.close()
    raise click.ClickException(f"no daemon answers ({'; '.join(reasons)}); start one: carbonmon daemon")

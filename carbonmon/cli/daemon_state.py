"""`carbonmon daemon --status` and `--stop`: how the daemon is, and its end."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import click

from carbonmon.cli import printing, terminal
from carbonmon.cli.run_alone import with_page
from carbonmon.client.rendezvous import daemon_sockets
from carbonmon.core.errors import ConfigError
from carbonmon.core.plain_text import plain
from carbonmon.core.text_layout import labelled
from carbonmon.core.times import local_text
from carbonmon.runs.summary.figures import duration_text
from carbonmon.runs.users import user_name
from carbonmon.service import daemon, daemon_control
from carbonmon.service.daemon_control import OfAnother, Serving

NOT_RUNNING = 3
"""Exit codes as the Linux Standard Base has them for services (LSB 5.0, 22.2): 3, it does not run."""
NOT_ALLOWED = 4
"""…: 4, the user may not do that."""

MOST_RUNS = 20


def show_status(socket: Path | None) -> NoReturn:
    """Print how the node's daemon is; the exit code is 0 if one serves, 3 if none does."""
    sockets = daemon_sockets() if socket is None else [socket]
    serving = _found(sockets)
    if serving is None:
        printing.echo(f"carbonmon daemon: none serves at {', '.join(map(str, sockets))}")
        sys.exit(NOT_RUNNING)
    printing.show("".join(f"{line}\n" for line in _lines(serving, terminal.width())))
    sys.exit(0)


def stop(socket: Path | None) -> NoReturn:
    """End the daemon and wait until it is gone; the exit code is 0 if none serves any more."""
    try:
        place = socket or daemon.default_socket()
        serving = _found([place])
        if serving is None:
            printing.echo(f"carbonmon daemon: none serves at {place}")
            _tell_of_root_s(socket)
            sys.exit(0)
        if not daemon_control.stop(serving):
            raise click.ClickException(
                f"the daemon at {place} has not ended within {daemon_control.STOP_S:.0f} s; its process is "
                f"{serving.pid}"
            )
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    except OfAnother as error:
        _refuse(error)
    printing.echo(f"carbonmon daemon: process {serving.pid} has ended{_left(serving)}")
    sys.exit(0)


def _found(sockets: list[Path]) -> Serving | None:
    try:
        return daemon_control.find(sockets)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    except OfAnother as error:
        _refuse(error)


def _refuse(error: OfAnother) -> NoReturn:
    printing.echo(f"carbonmon daemon: {error}", err=True)
    sys.exit(NOT_ALLOWED)


def _tell_of_root_s(socket: Path | None) -> None:
    """A user who wants the end of the node's daemon is told who can do that."""
    if socket is None and os.geteuid() != 0 and (found := daemon_control.find(daemon_sockets())) is not None:
        printing.echo(f"the one at {found.socket} is of {user_name(found.uid)}: sudo carbonmon daemon --stop")


def _left(serving: Serving) -> str:
    """What goes on without the daemon, and where it is kept."""
    runs = [str(run["run_id"]) for run in serving.status.get("runs") or ()]
    where = serving.settings.get("output")
    if not runs:
        return f"; the runs are in {where}" if where else ""
    named = [*runs[:MOST_RUNS], *["…"] * (len(runs) > MOST_RUNS)]
    count = f"{len(runs)} runs go" if len(runs) > 1 else "1 run goes"
    return (
        f"; {count} on without it ({', '.join(named)}): the next daemon with --output {where} resumes "
        f"{'them' if len(runs) > 1 else 'it'}"
    )


def _lines(serving: Serving, width: int | None) -> list[str]:
    status = serving.status
    kind = "daemon" if serving.is_daemon else "monitor of a job"
    title = f"carbonmon {status.get('version') or ''}".rstrip() + f": a {kind} serves"
    since_s, unit = status.get("since_s"), status.get("unit")
    facts = {
        "process": f"{serving.pid or 'in another container'}, of {user_name(serving.uid)}"
        + (f", the service {unit or 'of systemd'}" if unit is not None else ""),
        "address": " · ".join(with_page(map(str, status.get("places") or ()))) or "none",
        "socket": str(serving.socket),
        "since": ""
        if since_s is None
        else f"{local_text(since_s)} ({duration_text(max(0.0, time.time() - since_s))})",
        "output": str(serving.settings.get("output") or ""),
        "log": str(status.get("log") or ""),
    }
    found = list(facts.items())
    for number, sensor in enumerate(status.get("sensors") or ()):
        state = sensor["use"] if sensor["use"] != "used" or sensor["up"] else "used, and does not answer"
        reason = f": {sensor['reason']}" if sensor["reason"] and sensor["use"] != "used" else ""
        found.append(("" if number else "sensors", f"{sensor['sensor']} {state}{reason}"))
    runs = status.get("runs") or ()
    found.append(("runs", str(len(runs) or "none")))
    found += [
        ("", f"{run['run_id']} ({run['name']}, of {user_name(run['uid'])})") for run in runs[:MOST_RUNS]
    ]
    found += [("", f"and {len(runs) - MOST_RUNS} more")] if len(runs) > MOST_RUNS else []
    lines = [plain(title)]
    for label, text in found:
        lines += labelled(label, plain(text), width)  # a run's name is its user's
    return lines

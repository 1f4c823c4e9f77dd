"""`carbonmon run` where another process meters the node: it wraps the job and shows the result.

The monitor is that of the run that we are in already, the node's daemon, or one that the ranks of a launcher
start together. The job is the same as with a monitor of its own; if that monitor is lost, the job goes on.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from carbonmon.client.choices import other_settings, settings_of, unfollowed
from carbonmon.client.connection import MonitorConnection, Refused
from carbonmon.client.join_run import CONNECT_S, JOIN_S, START_S
from carbonmon.client.launcher import default_id, read_launch, run_key
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
from carbonmon.client.variables import mark
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.files import absolute
from carbonmon.core.records import NamedTuple
from carbonmon.core.ways import Choice
from carbonmon.runs.folders import why_not_ours
from carbonmon.runs.layout import SUMMARY_FILE
from carbonmon.runs.summary.file import write_summary
from carbonmon.service import job, naming, run_folder

log = logging.getLogger(__name__)

STATUS_S, STATUS_PERIOD_S = 0.2, 5.0
"""When the status line looks for an answer, for which the monitor takes a sample; how often it asks."""

LEAVE_S = 10.0
"""How long the end of a job waits for the monitor to have written its summary."""


class Part(NamedTuple):
    """Our part in a run of another process's monitor.

    `is_copied`: its summary is copied to our output if it ends with us; `is_awaited`: somebody asked for it.
    """

    connection: MonitorConnection
    run_id: str
    folder: Path
    places: tuple[str, ...]
    is_copied: bool
    is_awaited: bool


class DaemonUnlike(Exception):
    """The node's daemon has other options than were chosen; the text names them."""


def join_named(
    environ: Mapping[str, str], message: Mapping[str, Any], choices: Sequence[Choice]
) -> Part | None:
    """Take part in the run that this process is in already, or begin one with the monitor that is named."""
    if not environ.get(SOCKET_VARIABLE):
        return None
    path, run_id = Path(environ[SOCKET_VARIABLE]), environ.get(RUN_VARIABLE)
    asked = {**message, "run_id": run_id, "key": None} if run_id else message
    try:
        connected = connect(path, CONNECT_S)
    except OSError as error:
        level = logging.DEBUG if run_id else logging.WARNING  # the variables of a run outlive its monitor
        log.log(level, "%s=%s: no monitor there: %s", SOCKET_VARIABLE, path, error.strerror or error)
        return None
    connection = MonitorConnection(path, connected, dict(asked))
    return _join(connection, asked, choices, is_inside=bool(run_id), is_copied=not run_id)


def join_around(
    environ: Mapping[str, str], message: Mapping[str, Any], choices: Sequence[Choice]
) -> Part | None:
    """Take part in the run that one of our parents is in; None if there is none."""
    found = find_surrounding_run(environ)
    if found is None:
        return None
    path, run_id = found
    asked = {**message, "run_id": run_id, "key": None}
    try:
        connection = MonitorConnection(path, connect(path, CONNECT_S), dict(asked))
    except OSError as error:  # it has just ended
        log.debug("no monitor at %s: %s", path, error)
        return None
    return _join(connection, asked, choices, is_inside=True, is_copied=False)


def join_daemon(
    environ: Mapping[str, str], message: Mapping[str, Any], choices: Sequence[Choice]
) -> Part | None:
    """Begin a run with the node's daemon, or take part in one; None if there is no daemon for us.

    Raises `DaemonUnlike` where it would not follow a choice.
    """
    for path in daemon_sockets(environ):
        try:
            connection = MonitorConnection(path, connect(path, CONNECT_S), dict(message))
        except OSError as error:
            log.debug("no daemon at %s: %s", path, error)
            continue
        unlike = _unlike(connection, choices)
        if unlike:
            connection.close()
            raise DaemonUnlike(", ".join(unlike))
        part = _join(connection, message, choices, is_inside=False, is_copied=True)
        if part is not None:
            return part
    return None


def join_ranks(
    environ: Mapping[str, str],
    message: Mapping[str, Any],
    choices: Sequence[Choice],
    arguments: Sequence[str],
) -> Part | None:
    """Take part in the run of the other ranks of our launcher on this node; the first starts the monitor.

    `arguments` are the options that it is started with. None where the launcher starts no others here.
    """
    launch = read_launch(environ)
    if (launch.local_size or 1) < 2:
        return None
    try:
        path = run_socket(launch.key or run_key(environ), environ)

        def start(timeout_s: float) -> None:
            start_monitor(path, arguments, environ, timeout_s)

        connection = MonitorConnection(path, connect_or_start(path, start, START_S), dict(message))
    except (ConfigError, OSError) as error:
        log.warning("could not share one monitor; each rank starts its own: %s", error)
        return None
    return _join(connection, message, choices, is_inside=False, is_copied=False)


def join_message(
    environ: Mapping[str, str], command: Sequence[str], config: Config, choices: Sequence[Choice]
) -> dict[str, Any]:
    """What a monitor is told of a job; what is None, or was not chosen, is left to it."""
    launch = read_launch(environ)
    said: dict[str, Any] = {
        **launch._asdict(),
        "run_id": config.run_id or launch.run_id,
        "default_id": default_id(environ, time.time()),
        "key": None if config.run_id else launch.key or run_key(environ),
        "name": config.name or (naming.command_name(command) if config.redact_command else None),
        "command": naming.kept_command(command, config.redact_command),
        "labels": dict(config.labels),
        "gpus": None if config.gpus is None else list(config.gpus),
        "idle": config.idle if any(choice.option.name == "idle" for choice in choices) else None,
        "environ": {key: environ[key] for key in GPU_VARIABLES if key in environ},
        "wrapper": True,
    }
    return {"op": "join", **{key: value for key, value in said.items() if value is not None}}


def run(
    part: Part,
    command: job.Command,
    output: Path,
    show: Callable[[dict[str, Any], Sequence[str]], object],
    has_status_line: bool = False,
) -> int:
    """Run the job and return its exit code.

    If the run ended with us, `show` gets its summary and the processes that go on without it.

    A daemon keeps the run's folder where only it may write: then the summary is copied to `output`.
    """
    mask = job.block_signals()
    more = {
        SOCKET_VARIABLE: os.fspath(part.connection.path),
        RUN_VARIABLE: part.run_id,
        SEEN_VARIABLE: mark(os.environ),
    }
    try:
        command.start(mask, more)
    except OSError as error:
        code = job.start_error_code(error)
        _leave(part, {"exit_code": code})
        if error.errno in job.NO_PLACE:
            log.error("%s: it runs in carbonmon's place, unmetered (%s)", command.command[0], error.strerror)
            return command.take_our_place(mask)
        from carbonmon.service.start_errors import start_error

        log.error("%s", start_error(command.command, error))
        return code
    _tell_job(part, command.pid)
    with _status_line(part, os.environ) if has_status_line else nullcontext():
        outcome = command.wait(lambda pid: _tell_job(part, pid, wrapper=True))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # whoever is impatient may end the wait for the monitor
    try:
        _end(part, outcome, output, show)
    # Our own files may have been replaced while the job ran, as by an update: the exit code is the job's.
    except Exception as error:  # noqa: BLE001
        log.warning("the end of run %s cannot be shown (%s: %s)", part.run_id, type(error).__name__, error)
    return outcome.shell_code


def _end(
    part: Part, outcome: job.Outcome, output: Path, show: Callable[[dict[str, Any], Sequence[str]], object]
) -> None:
    """Leave the run, and show and keep what it came to if it ended with us."""
    answer = _leave(part, {"exit_code": outcome.exit_code, "signal": outcome.signal})
    summary = answer.get("summary")
    if isinstance(summary, dict):
        if part.is_copied and not _is_in(part.folder, output):
            _keep(summary, output, part.folder)
        show(summary, job.left_behind())
    elif part.is_awaited and answer.get("last") is False:
        log.warning("run %s goes on: its summary will be in %s, not in %s", part.run_id, part.folder, output)


@contextmanager
def _status_line(part: Part, environ: Mapping[str, str]) -> Iterator[None]:
    """Show what the monitor tells of the run while the job goes on."""
    from carbonmon.service import status_line

    def status() -> status_line.Status | None:
        # Without waiting: a request that is not answered in time would cut the goodbye short.
        part.connection.ask({"op": "snapshot"})
        time.sleep(STATUS_S)
        part.connection.hear()
        return status_line.of_totals(part.connection.heard, time.time())

    line = status_line.StatusLine(status, environ, period_s=STATUS_PERIOD_S)
    line.start()
    try:
        yield
    finally:
        line.close()


def _unlike(connection: MonitorConnection, choices: Sequence[Choice]) -> list[str]:
    """The choices that this daemon does not have in force, each with what it uses."""
    acting = {"budget": "only carbonmon run acts on budgets", "pause": "only carbonmon run pauses a job"}
    asked = [choice for choice in choices if choice.option.belongs_to == "monitor"]
    settings = settings_of(connection) if asked else {}
    left = [
        f"{choice.shown} ({acting[choice.option.belongs_to]})"
        for choice in choices
        if choice.option.belongs_to in acting
    ]
    if settings is None:
        return [*left, *[f"{choice.shown} (it does not say what it uses)" for choice in asked]]
    return [*left, *other_settings(asked, settings)]


def _join(
    connection: MonitorConnection,
    message: Mapping[str, Any],
    choices: Sequence[Choice],
    *,
    is_inside: bool,
    is_copied: bool,
) -> Part | None:
    refused = [each.shown for each in choices if each.option.belongs_to == "pause" and each.is_argument]
    if refused:
        connection.close()
        raise ConfigError(
            f"{refused[0]}: the monitor at {connection.path} meters this job, and only a job's own carbonmon "
            "run pauses it: give it to the command that begins the run, or take a monitor of your own: "
            "--own-monitor"
        )
    try:
        answer = connection.request(dict(message), JOIN_S)
    except (OSError, Refused, ProtocolError) as error:
        log.warning("the monitor at %s does not take this run: %s", connection.path, error)
        connection.close()
        return None
    run_id = str(answer.get("run_id"))
    connection.join_message = {**message, "run_id": run_id, "key": None}
    line = unfollowed(connection, answer, choices, is_inside=is_inside, is_copied=is_copied)
    if line is not None:
        log.warning("%s", line)
    places = tuple(str(place) for place in answer.get("places") or ())
    is_alone = (message.get("local_size") or 1) < 2  # else another rank makes the copy
    is_awaited = is_copied and is_alone and any(choice.option.belongs_to == "output" for choice in choices)
    folder = Path(str(answer.get("folder")))
    return Part(connection, run_id, folder, places, is_copied, is_awaited)


def _tell_job(part: Part, pid: int, *, wrapper: bool = False) -> None:
    """Its processes are followed from its own pid as well: this process may be killed before any sample.

    A `wrapper` is a process of ours beside the job.
    """
    try:
        part.connection.send({"op": "job", "pid": pid, **({"wrapper": True} if wrapper else {})})
    except ProtocolError as error:
        log.debug("the monitor was not told of process %d: %s", pid, error)


def _leave(part: Part, how: Mapping[str, int | None]) -> dict[str, Any]:
    """Say goodbye; the job has ended, so nothing that fails here may raise."""
    known = {key: value for key, value in how.items() if value is not None}
    try:
        try:
            return part.connection.request({"op": "leave", **known}, LEAVE_S)
        except ConnectionError:  # the daemon may have been started anew: the connection joins again
            return part.connection.request({"op": "leave", **known}, LEAVE_S)
    except (OSError, Refused, ProtocolError) as error:
        log.warning(
            "the monitor of run %s is lost (%s); what is known of it: carbonmon report %s",
            part.run_id,
            error,
            part.folder,
        )
        return {}
    except KeyboardInterrupt:
        return {}
    finally:
        part.connection.close()


def _is_in(folder: Path, output: Path) -> bool:
    """Whether a monitor has written a run's summary below our output, also where paths mean other folders."""
    return folder.parent == absolute(output) and (folder / SUMMARY_FILE).exists()


def _keep(summary: dict[str, Any], output: Path, theirs: Path) -> None:
    """Write a run's summary below our output; `theirs` is the folder that its monitor writes."""
    folder = output / theirs.name  # the nodes of a run share its id, not the folder's name
    try:
        # Where the monitor keeps the run below our output and writes no summary (--exporter without it), a
        # second folder would put the run into the list of runs twice.
        if theirs.parent != absolute(output) or why_not_ours(theirs):
            folder = run_folder.create(output, None, theirs.name)  # an earlier run's summary stays
        write_summary(folder, summary)
    except (ConfigError, OSError) as error:
        log.warning("the summary cannot be copied to %s: %s", folder, error)

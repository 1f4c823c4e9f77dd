"""What `carbonmon run` does with a monitor of its own, and what it says: without click, for a quick start."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import PurePath

from carbonmon import __version__
from carbonmon.cli import printing, terminal
from carbonmon.client.launcher import read_launch
from carbonmon.client.protocol import SOCKET_VARIABLE
from carbonmon.core.config import Config
from carbonmon.core.model import Snapshot
from carbonmon.service.job import Attached, Command, left_behind
from carbonmon.service.unseen import unseen_note

MAX_NAMED = 4
"""So many processes that go on are named."""

_RARE_IN_TRAININGS = ("region", "intensity", "intensity-file", "pue", "budget")


def run_alone(config: Config, job: Sequence[str]) -> int:
    """Monitor a job, or the process to attach to, from start to end; the exit code.

    Raises `ConfigError` for mistakes in the options, always before the job starts.
    """
    from carbonmon.service import single_run  # a third of the start, which a part of another run does without

    def announce(snapshot: Snapshot, run_id: str, places: Sequence[str]) -> None:
        if config.quiet:
            return
        say(f"run {run_id}: {' · '.join([*with_page(places), sources_text(snapshot)])}")
        if snapshot.intensity.note:
            say(f"{snapshot.intensity.g_per_kwh:.4g} gCO2e/kWh: {snapshot.intensity.note}")
        if config.pause_above_g_per_kwh is not None and read_launch(os.environ).scheduler:
            say("the time limit of the scheduler's job runs on while the job is paused")

    workload = Attached(config.attach) if config.attach is not None else Command(job, dict(os.environ))
    result = single_run.run(config, workload, announce)
    if result.final is not None and not config.quiet:
        _show_end(result.final)
    return result.exit_code


def say_what_is_misplaced(job: Sequence[str], config: Config, given: Collection[str]) -> None:
    """Say where carbonmon, or an option of it, should stand; `given` are the options before the job."""
    if not config.quiet:
        for note in (_unseen(job, config), _behind_the_job(job, given)):
            if note:
                say(note)


def _unseen(job: Sequence[str], config: Config) -> str:
    """Where carbonmon belongs if this command's work is not below it. A daemon may be told of it by hooks."""
    told = os.environ.get(SOCKET_VARIABLE)
    if told and not PurePath(told).name.startswith("run-"):
        return ""
    return unseen_note(job, os.environ, owns_node=config.idle == "exclusive")


def _behind_the_job(job: Sequence[str], given: Collection[str]) -> str:
    """A line on an option of ours that stands behind the job's command, which gets it; "" where none does.

    Only of options that trainings hardly have, and that we were not given.
    """
    for name in _RARE_IN_TRAININGS:
        if name not in given and any(word.partition("=")[0] == f"--{name}" for word in job[1:]):
            return (
                f"--{name} stands behind the command, so that the job gets it; for carbonmon it stands before"
            )
    return ""


def _show_end(final: Snapshot) -> None:
    """Print what the run came to; nothing that fails here takes the job's exit code."""
    try:
        from carbonmon.runs.summary.text import describe

        echo(describe(final, terminal.width(err=True)))
        say_what_goes_on(left_behind())
    # Our own files may have been replaced while the job ran, as by an update: whatever comes of that.
    except Exception as error:  # noqa: BLE001
        say(f"the end of the run cannot be shown ({type(error).__name__}: {error}); carbonmon report last")


def say_what_goes_on(processes: Sequence[str]) -> None:
    """Name the processes of the job that have not ended."""
    if processes:
        count = "1 process goes on" if len(processes) == 1 else f"{len(processes)} processes go on"
        more = ", …" if len(processes) > MAX_NAMED else ""
        named = ", ".join(processes[:MAX_NAMED])
        say(f"{count} ({named}{more}): energy from now on is not counted")


def with_page(places: Iterable[str]) -> list[str]:
    """The places of the results, with the address of the page behind that of the metrics."""
    shown = []
    for place in places:
        shown.append(place)
        address, _, path = place.partition(" ")[0].rpartition("/")
        if path == "metrics" and address.count("/") == 2:
            shown.append(f"page {address}/")
    return shown


def sources_text(snapshot: Snapshot) -> str:
    """How many devices of each kind are known by which method, for the first line."""
    counts: dict[tuple[str, str], int] = {}
    for state in snapshot.devices:
        method = state.device.methods[0] if state.device.methods else "nothing"
        key = (state.device.component, method)
        counts[key] = counts.get(key, 0) + 1
    if not counts:
        return "no source of power: see carbonmon doctor"
    words = {"counter": "counter", "power": "power sensor", "tdp": "tdp, estimated"}
    return ", ".join(
        f"{count} {component} by {words.get(method, method)}" for (component, method), count in counts.items()
    )


def say(text: str) -> None:
    """A line of our own on stderr."""
    echo(f"carbonmon {__version__}: {text}\n")


def echo(text: str) -> None:
    """Write to stderr; one that is closed or broken is no reason to fail the job."""
    with suppress(OSError, ValueError):
        printing.echo(text, err=True, nl=False)

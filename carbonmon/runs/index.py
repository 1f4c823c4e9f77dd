"""The runs of a folder in short: what they are called, who had them, how long, how many joules and grams."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from carbonmon.core.documents import json_object
from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.core.times import known_time
from carbonmon.core.typed import LARGEST
from carbonmon.runs.checked import RunFileError, read_bytes
from carbonmon.runs.checkpoint_slots import has_checkpoint
from carbonmon.runs.layout import RUN_FILE, SUMMARY_FILE
from carbonmon.runs.reader import read_checkpoint, read_run
from carbonmon.runs.summaries import LONGEST_SUMMARY_BYTES, is_unseen, summary_of
from carbonmon.runs.summary.document import SCHEMA
from carbonmon.runs.summary.validation import fault_of

ENDED = ("final", "estimated")
"""States in which a run has all its figures."""

MOST_NAMED = 3
"""So many folders that hold no run are named; there may be thousands."""

_NUMBERS = frozenset((int, float))


Watched = Callable[[Sequence[Path]], Iterable[Path]]


class Entry(NamedTuple):
    """A run of a folder. Unknown is None; an energy of 0 J is known.

    `uid` is the user who had it; None where nobody says. `emissions_g` is settled if `is_settled`, else the
    live figure. `measured_ratio` is the measured part of the energy. `user` is the name of the user, "" where
    the monitor gave no names. `seen_s` is how far the figures go of a run that has not ended (Unix time).
    """

    folder: Path
    id: str
    name: str
    state: str
    host: str
    uid: int | None
    labels: Mapping[str, str]
    start_s: float | None
    ended_s: float | None
    duration_s: float | None
    energy_j: float | None
    measured_ratio: float | None
    emissions_g: float | None
    is_settled: bool
    user: str = ""
    seen_s: float | None = None

    @property
    def end_s(self) -> float | None:
        """When it ended, else how far its figures go; a resumed run's duration leaves out its pauses."""
        if self.ended_s is not None or self.start_s is None:
            return self.ended_s
        if self.seen_s is not None:
            return max(self.start_s, self.seen_s)
        return self.start_s + (self.duration_s or 0.0)


def read_index(output: Path, watched: Watched = iter) -> tuple[list[Entry], list[str]]:
    """The runs below a folder, and notes about what else is there. Raises `ConfigError` if it is none.

    `watched` passes the folders on, one after the other, and may show how many of them are read.
    """
    entries: list[Entry] = []
    notes: list[str] = []
    foreign: list[str] = []
    try:
        folders = [
            output / name for name in sorted(found.name for found in os.scandir(output) if found.is_dir())
        ]
    except OSError as error:
        raise ConfigError(
            f"--output: {output} cannot be listed: {error.strerror or error}; give the folder of the runs"
        ) from None
    for folder in watched(folders):
        try:
            entry = read_entry(folder)
        except RunFileError as error:
            notes.append(str(error))
            continue
        if entry is None:
            foreign.append(folder.name)
        else:
            entries.append(entry)
    if foreign:
        more = f" and {len(foreign) - MOST_NAMED} more" if len(foreign) > MOST_NAMED else ""
        named = ", ".join(f"{name!r:.80}" for name in foreign[:MOST_NAMED])
        notes.append(f"{output}: no run, or none with figures yet, is in {named}{more}")
    return entries, notes


def read_entry(folder: Path) -> Entry | None:
    """The run of a folder, None if there is none in it. Raises `RunFileError` for a damaged one."""
    path = folder / SUMMARY_FILE
    try:
        owner = path.stat().st_uid
    except OSError:
        owner = None
    if owner is not None:
        summary = json_object(read_bytes(path, LONGEST_SUMMARY_BYTES), path, RunFileError)
        if summary.get("schema") == SCHEMA and summary.get("state") in ENDED:
            return _entry(folder, path, summary, owner)
    elif not has_checkpoint(folder):
        return None
    if owner is None:
        with suppress(OSError):
            owner = (folder / RUN_FILE).stat().st_uid
    entry = _entry(folder, path, summary_of(folder), owner)
    return entry if entry.state in ENDED else entry._replace(seen_s=read_checkpoint(folder).snapshot.at_s)


def _entry(folder: Path, path: Path, summary: Mapping[str, Any], owner: int | None) -> Entry:
    """By hand, since there may be ten thousand: the schema is asked only where a value is odd."""
    try:
        run, energy, carbon = summary["run"], summary["energy"], summary["carbon"]
        settled = summary.get("settled")
        total_j = energy["total_j"]
        is_unknown = total_j is None or (summary["state"] != "estimated" and is_unseen(energy))
        entry = Entry(
            folder,
            _text(run["id"]),
            _text(run["name"]),
            summary["state"],
            _text(run["host"]),
            _uid(folder, run, owner),
            {_text(key): _text(value) for key, value in run["labels"].items()},
            known_time(run["started_at"]),
            None if (ended := run.get("ended_at")) is None else known_time(ended),
            _amount(run["duration_s"]),
            None if is_unknown else _amount(total_j),
            _amount(energy["measured_ratio"]),
            _amount((settled or carbon)["emissions_g"]),
            bool(settled),
            _text(run.get("user") or ""),
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        raise RunFileError(f"{path}: damaged: {fault_of(summary) or 'an impossible value'}") from None
    return entry if entry.energy_j is not None else entry._replace(emissions_g=None)


def _uid(folder: Path, run: Mapping[str, Any], owner: int | None) -> int | None:
    """Who had the run: as its summary says, else (until release 0.2) run.json, else who owns the files."""
    if "uid" in run:
        found = run["uid"]
    else:
        found = None
        if owner == 0:  # a daemon of everybody; the files of all others are the user's own
            with suppress(ConfigError):
                found = read_run(folder)[0].uid
    if found is not None and type(found) is not int:
        raise TypeError
    return owner if found is None else found


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _amount(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in _NUMBERS or not 0.0 <= value <= LARGEST:
        raise ValueError
    return float(value)

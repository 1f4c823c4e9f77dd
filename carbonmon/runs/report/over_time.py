"""A run over time for its report: the series of its nodes, as far as they can be read, in some 300 steps."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carbonmon.core.records import NamedTuple
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.downsampling import Downsampler, Glance
from carbonmon.runs.report.merging.devices import ids_of_all
from carbonmon.runs.series import streamed
from carbonmon.runs.series_rows import SeriesRow
from carbonmon.runs.summaries import Part
from carbonmon.runs.summary.figures import percent_text

_MISSING_RATIO = 0.005
"""Of the run's energy: if the series lacks more than this, it is said."""


class OverTime(NamedTuple):
    """The steps, None without a single row, and what is missing in them, in sentences."""

    glance: Glance | None
    notes: Sequence[str]


def over_time(parts: Sequence[Part]) -> OverTime:
    """All nodes together; devices have the ids that they have in the summary of the whole."""
    pairs = [
        (part.summary["run"]["host"], device["id"])
        for part in parts
        for device in part.summary["energy"]["devices"]
    ]
    ids = ids_of_all(pairs)
    nodes = [_Node(part, ids) for part in parts]
    downsampler = Downsampler()
    if len(nodes) == 1:
        downsampler.add(nodes[0].rows())
    else:
        downsampler.add(heapq.merge(*(node.rows() for node in nodes), key=lambda row: row.at_s))
    glance = downsampler.glance()
    notes = [note for node in nodes for note in node.notes]
    if all(part.folder is None for part in parts):
        notes = ["There is no folder with the series: only a summary was given."]
    if glance is not None:
        glance = glance._replace(components=_components(glance, parts, ids))
        notes += _lack(glance, parts)
    return OverTime(glance, notes)


class _Node:
    """The rows of one node's series, and what could not be read of it."""

    def __init__(self, part: Part, ids: Mapping[tuple[str, str], str]) -> None:
        self._folder = part.folder
        self._host = part.summary["run"]["host"]
        self._ids = ids
        self._damaged = 0
        self._fault = ""

    @property
    def notes(self) -> list[str]:
        whose = f" of {self._host}" if self._host else ""
        if self._folder is None:
            return [f"There is no folder with the series{whose}: only a summary was given."]
        found = [f"The series{whose} cannot be read: {self._fault}."] if self._fault else []
        if self._damaged:
            lines = "1 damaged line" if self._damaged == 1 else f"{self._damaged} damaged lines"
            found.append(f"{lines} of the series{whose} left out.")
        return found

    def rows(self) -> Iterator[SeriesRow]:
        if self._folder is None:
            return
        try:
            for _, rows in streamed(self._folder):
                if rows is None:
                    self._damaged += 1
                    continue
                for row in rows:
                    shown = self._ids.get((self._host, row.device), row.device)
                    yield row if shown == row.device else row._replace(device=shown)
        except RunFileError as error:
            self._fault = str(error)


def _components(glance: Glance, parts: Sequence[Part], ids: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """The components of the devices; where an older series does not say one, that of the summary."""
    known = {
        ids[part.summary["run"]["host"], device["id"]]: device["component"]
        for part in parts
        for device in part.summary["energy"]["devices"]
    }
    return {device: found or known.get(device) for device, found in glance.components.items()}


def _lack(glance: Glance, parts: Sequence[Part]) -> list[str]:
    """Whether the series holds less energy than the run was charged."""
    total_j = sum(part.summary["energy"]["total_j"] or 0.0 for part in parts)
    drawn_j = sum(step.energy_j for steps in glance.devices.values() for step in steps if step)
    if total_j - drawn_j <= _MISSING_RATIO * total_j:
        return []
    part = percent_text(drawn_j / total_j)
    return [f"The series holds {part} of the run's energy; the tables have all of it."]

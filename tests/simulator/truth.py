"""What a simulated machine drew during a run beside what carbonmon says of it: same time, same owner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from carbonmon.core.text_layout import table
from carbonmon.core.times import parse_time
from tests.simulator.machine import Simulator


class Compared(NamedTuple):
    """A device over the run: joules that it drew in all, what carbonmon says of that, and the run's part."""

    device: str
    truth_j: float
    told_j: float | None
    run_j: float | None

    @property
    def difference_percent(self) -> float | None:
        """Of what is told from the truth; None where one is unknown or nothing."""
        return None if self.told_j is None or not self.truth_j else 100.0 * (self.told_j / self.truth_j - 1.0)


def summaries_since(folder: Path, since_s: float) -> Iterator[dict[str, Any]]:
    """The summaries of runs below a folder that began since a Unix time, the oldest first."""
    found = []
    for path in folder.glob("*/summary.json"):
        summary = json.loads(path.read_text())
        started_s = parse_time(summary["run"]["started_at"])
        if summary["run"]["ended_at"] is not None and started_s >= since_s:
            found.append((started_s, summary))
    return (summary for _, summary in sorted(found, key=lambda item: item[0]))


def compare(machine: Simulator, summary: dict[str, Any]) -> list[Compared]:
    """Each metered device from the run's begin to its end, and then all of them together."""
    begin_s = parse_time(summary["run"]["started_at"])
    end_s = begin_s + summary["run"]["duration_s"]
    cards = {card.id: card for card in machine.cards}
    meters: dict[str, Any] = {**{gpu.uuid: gpu for gpu in machine.gpus}, **cards, **machine.zones}
    rows = [
        Compared(
            device["id"],
            meters[device["id"]].energy_between_wall(begin_s, end_s),
            device["node_energy_j"],
            device["energy_j"],
        )
        for device in summary["energy"]["devices"]
        if device["id"] in meters
    ]
    sums = [[row[place] or 0.0 for row in rows] for place in (1, 2, 3)]
    return [*rows, Compared("all", *map(sum, sums))]


def text(summary: dict[str, Any], rows: list[Compared]) -> str:
    """The comparison as a table."""
    head = ("device", "drew", "carbonmon says", "difference", "of it the run's")
    cells = [
        (
            row.device,
            f"{row.truth_j:.3f} J",
            "unknown" if row.told_j is None else f"{row.told_j:.3f} J",
            "" if (percent := row.difference_percent) is None else f"{percent:+.3f} %",
            "unknown" if row.run_j is None else f"{row.run_j:.3f} J",
        )
        for row in rows
    ]
    run = summary["run"]
    title = f"simulator: all that the devices drew in the {run['duration_s']:.3f} s of run {run['id']}"
    return "".join(f"{line}\n" for line in [title, *table([head, *cells], numbers=(1, 2, 3, 4), indent="  ")])

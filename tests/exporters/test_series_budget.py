"""How many series a node and a run are: what docs/use/scale.md promises, and what Prometheus has to carry."""

from __future__ import annotations

from pathlib import Path

import pytest
from carbonmon_exporters.collector import OwnProcessCollector, SnapshotCollector
from carbonmon_exporters.machine import MachineCollector

from carbonmon.core.model import Snapshot
from tests.bench.scale import PHASES, node_snapshot

PAGE = (Path(__file__).parents[2] / "docs" / "use" / "scale.md").read_text()


def in_its_last_phase() -> Snapshot:
    """The node with one run, which is in its last phase."""
    since_s = 1_795_000_000.0
    nodes = (node_snapshot(3, since_s + 60.0 * minute, since_s) for minute in range(10_000))
    return next(
        node
        for node in nodes
        if len(node.runs) == 1
        and node.runs[0].ended_at_s is None
        and {row.phase for row in node.runs[0].totals} == set(PHASES)
    )


NODE = in_its_last_phase()


def series(snapshot: Snapshot) -> int:
    proc = Path("/proc")
    collectors = (SnapshotCollector(lambda: snapshot), OwnProcessCollector(proc), MachineCollector(proc))
    return sum(len(family.samples) for collector in collectors for family in collector.collect())


def with_phases(*names: str) -> Snapshot:
    (run,) = NODE.runs
    rows = tuple(row for row in run.totals if row.phase in names)
    return NODE._replace(runs=(run._replace(totals=rows),))


IDLE = series(NODE._replace(runs=()))


def test_an_idle_node_with_eight_gpus_has_at_most_150_series() -> None:
    assert IDLE <= 150
    assert f"idle | {IDLE} |" in PAGE


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_run_on_it_has_at_most_60_and_12_a_phase(number: int) -> None:
    assert series(with_phases(*PHASES[:number])) - IDLE <= 60 + 12 * number


def test_the_page_says_what_a_run_and_its_phases_are() -> None:
    one, three = (series(with_phases(*PHASES[:number])) - IDLE for number in (1, 3))
    a_phase = (three - one) // 2
    assert f"{one - a_phase}, and {a_phase} for each phase" in PAGE
    assert f"{one} with `main` alone" in PAGE

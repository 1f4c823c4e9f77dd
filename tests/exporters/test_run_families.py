"""What is shown of a run only while it lasts, and of the machine."""

from __future__ import annotations

from pathlib import Path

from carbonmon_exporters.collector import SnapshotCollector
from carbonmon_exporters.machine import MachineCollector

from carbonmon.core.model import RunInfo, Snapshot
from tests.support.records import device_state, gpu, run_state, snapshot

INFO = RunInfo("mine", "train", ("train",), (), "node", 1_795_000_000.0)


def shown(state: Snapshot) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The samples' labels and values by their names."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in SnapshotCollector(lambda: state).collect():
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def node(ended_at_s: float | None) -> Snapshot:
    run = run_state(INFO, (), power_w=((gpu(0).id, 300.0),))
    return snapshot((run._replace(phase="eval", ended_at_s=ended_at_s),), (device_state(gpu(0)),))


def test_a_run_shows_its_power_and_the_phase_that_it_is_in() -> None:
    found = shown(node(None))
    ((labels, watts),) = found["carbonmon_run_power_watts"]
    assert (labels["run_id"], watts) == ("mine", 300.0)
    assert found["carbonmon_run_phase_info"] == [({"run_id": "mine", "phase": "eval"}, 1.0)]


def test_a_run_that_has_ended_is_in_no_phase_and_draws_nothing_that_it_drew_at_last() -> None:
    found = shown(node(1_795_000_100.0))
    assert "carbonmon_run_end_time_seconds" in found
    assert "carbonmon_run_power_watts" not in found
    assert "carbonmon_run_phase_info" not in found


def test_monitors_of_one_machine_show_the_same_boot_and_one_that_hides_it_shows_none(tmp_path: Path) -> None:
    place = tmp_path / "sys" / "kernel" / "random" / "boot_id"
    place.parent.mkdir(parents=True)
    place.write_text("1b4e28ba-2fa1-11d2-883f-0016d3cca427\n")
    for _ in range(2):
        ((sample,),) = [family.samples for family in MachineCollector(tmp_path).collect()]
        assert sample.labels == {"boot_id": "1b4e28ba-2fa1-11d2-883f-0016d3cca427"}
    assert list(MachineCollector(tmp_path / "missing").collect()) == []

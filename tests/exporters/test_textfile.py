"""The exporter `textfile`: a file for each run that node_exporter can read at any time, for ever."""

from __future__ import annotations

import os
import re
import stat
from itertools import pairwise
from pathlib import Path

import pytest
from carbonmon_exporters.push.rungroup import LASTING, OF_THE_MOMENT
from carbonmon_exporters.textfile import TextfileExporter, open_exporter
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from carbonmon.core import metrics as families
from carbonmon.core.errors import ConfigError
from carbonmon.core.files import replace_file
from carbonmon.core.model import RunState, Snapshot
from carbonmon.core.ports import ExporterSettings
from carbonmon.monitor.guard import GuardedExporter
from tests.support.records import START_S, gpu, node, run_info, run_state, run_total, snapshot

ENERGY = "carbonmon_run_energy_joules_total"


def samples(path: Path) -> list[Sample]:
    text = path.read_bytes().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def joules(folder: Path, run_id: str, phase: str = "main") -> float:
    found = samples(folder / f"carbonmon-{run_id}.prom")
    return sum(s.value for s in found if s.name == ENERGY and s.labels["phase"] == phase)


def run(run_id: str = "mine", energy_j: float = 500.0, phases: tuple[str, ...] = ("main",)) -> RunState:
    rows = tuple(run_total(gpu().id, "gpu", "counter", energy_j, phase=phase) for phase in phases)
    return run_state(run_info(run_id), rows, power_w=((gpu().id, 300.0),), processes=3)


def at(clock_s: float, *runs: RunState, continued: bool = False) -> Snapshot:
    whole = node(1, 1, 1)
    return whole._replace(runs=runs, clock_s=clock_s, samples=1 + int(clock_s), continued=continued)


def opened(folder: Path, first: Snapshot) -> TextfileExporter:
    exporter = TextfileExporter(folder, {})
    exporter.start(lambda: first)
    exporter._latest = None  # from now on what is written is what is shown
    return exporter


def ended(state: RunState) -> RunState:
    return state._replace(ended_at_s=START_S + 60.0, exit_code=0)


def test_a_file_holds_the_totals_as_they_stand_at_all_times(tmp_path: Path):
    """A monitor that is killed leaves what it wrote last, for ever."""
    exporter = opened(tmp_path, at(0.0))
    for clock_s, energy_j in ((100.0, 0.0), (115.0, 300.0), (130.0, 600.0)):
        exporter.checkpoint(at(clock_s, run(energy_j=energy_j)))
        assert joules(tmp_path, "mine") == energy_j


def test_what_is_no_counter_is_told_from_the_beginning(tmp_path: Path):
    opened(tmp_path, at(0.0)).checkpoint(at(100.0, run()))
    shown = {sample.name: sample.value for sample in samples(tmp_path / "carbonmon-mine.prom")}
    assert shown["carbonmon_run_power_watts"] == 300.0
    assert shown["carbonmon_run_processes"] == 3.0


def test_the_end_of_a_run_tells_its_totals_at_once_and_nothing_that_was_true_only_then(tmp_path: Path):
    exporter = opened(tmp_path, at(0.0))
    exporter.checkpoint(at(100.0, run(energy_j=0.0)))
    exporter.checkpoint(at(101.0, ended(run(energy_j=90.0))))
    assert joules(tmp_path, "mine") == 90.0
    names = {sample.name for sample in samples(tmp_path / "carbonmon-mine.prom")}
    assert "carbonmon_run_end_time_seconds" in names
    assert names.isdisjoint(family.name for family in OF_THE_MOMENT)


def test_the_end_of_the_monitor_is_the_end_of_the_file_too(tmp_path: Path):
    exporter = opened(tmp_path, at(0.0))
    exporter.finish(at(100.0, run(energy_j=90.0)))
    exporter.close()
    assert joules(tmp_path, "mine") == 90.0
    names = {sample.name for sample in samples(tmp_path / "carbonmon-mine.prom")}
    assert "carbonmon_run_power_watts" not in names


def test_a_phase_is_told_with_the_first_checkpoint_after_its_begin(tmp_path: Path):
    exporter = opened(tmp_path, at(0.0))
    exporter.checkpoint(at(0.0, run()))
    exporter.checkpoint(at(5.0, run(phases=("main", "eval"))))
    assert (joules(tmp_path, "mine"), joules(tmp_path, "mine", "eval")) == (500.0, 500.0)
    exporter.checkpoint(at(10.0, run(energy_j=900.0, phases=("main", "eval"))))
    assert joules(tmp_path, "mine", "eval") == 500.0, "not due before 15 s have passed"


def test_a_run_that_an_earlier_monitor_began_goes_on_with_its_totals(tmp_path: Path):
    exporter = opened(tmp_path, at(0.0))
    exporter.checkpoint(at(100.0, run(), continued=True))
    assert joules(tmp_path, "mine") == 500.0


def test_a_file_is_written_every_15_s_and_when_a_run_begins(tmp_path: Path):
    exporter = opened(tmp_path, at(0.0))
    path = tmp_path / "carbonmon-mine.prom"
    seen = []
    for clock_s in (0.0, 5.0, 9.9, 14.8, 20.0, 25.0):
        exporter.checkpoint(at(clock_s, run()))
        seen.append(path.stat().st_ino)
    is_the_same = [before == inode for before, inode in pairwise(seen)]
    assert is_the_same == [True, True, False, True, True]
    exporter.checkpoint(at(26.0, run(), run("second")))
    assert (tmp_path / "carbonmon-second.prom").exists()


def test_no_sample_of_one_run_collides_with_another_run_s_or_with_node_exporter_s_own(tmp_path: Path):
    exporter = opened(tmp_path, at(0.0))
    whole = node(2, 2, 2)
    (first,) = whole.runs
    both = (first._replace(info=run_info("a")), first._replace(info=run_info("b")))
    exporter.checkpoint(whole._replace(runs=both))
    found = [samples(tmp_path / f"carbonmon-{run_id}.prom") for run_id in ("a", "b")]
    keys = [(s.name, *sorted(s.labels.items())) for part in found for s in part]
    assert len(keys) == len(set(keys)) > 40
    assert all(s.name.startswith("carbonmon_") for part in found for s in part)
    assert all(s.timestamp is None for part in found for s in part)
    assert {s.labels["run_id"] for s in found[0]} == {"a"}


def test_no_help_stands_in_a_file_and_the_type_of_a_family_is_the_same_in_every_one(tmp_path: Path):
    """node_exporter drops the samples of a file whose help is another one than that of an older file."""
    exporter = opened(tmp_path, at(0.0))
    exporter.checkpoint(at(0.0, run("a"), ended(run("b", 1.0))))
    texts = [(tmp_path / f"carbonmon-{name}.prom").read_text() for name in ("a", "b")]
    heads = [set(re.findall(r"^# .*$", text, re.M)) for text in texts]
    common = {line.split()[2] for line in heads[0]} & {line.split()[2] for line in heads[1]}
    assert len(common) > 5
    assert all(line.startswith("# TYPE ") for head in heads for line in head)
    assert {line for line in heads[0] if line.split()[2] in common} == {
        line for line in heads[1] if line.split()[2] in common
    }


def test_every_family_of_runs_is_told(tmp_path: Path):
    told = {*LASTING, *OF_THE_MOMENT}
    assert {family for family in families.FAMILIES if "run_id" in family.labels} <= told


def test_everybody_may_read_the_file_whatever_the_umask(tmp_path: Path):
    before = os.umask(0o077)
    try:
        opened(tmp_path, at(0.0)).checkpoint(at(0.0, run()))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "carbonmon-mine.prom").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["carbonmon-mine.prom"]


def test_what_lies_in_the_way_of_the_temporary_file_is_not_followed(tmp_path: Path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".x.prom.{os.getpid()}.tmp").symlink_to(victim)
    replace_file(tmp_path / "x.prom", b"new\n", for_others=True)
    assert victim.read_text() == "precious"
    assert (tmp_path / "x.prom").read_bytes() == b"new\n"
    assert not (tmp_path / "x.prom").is_symlink()


def test_a_file_that_cannot_be_replaced_stays_and_leaves_no_other(tmp_path: Path):
    (tmp_path / "x.prom").mkdir()
    with pytest.raises(OSError, match=r"x\.prom"):
        replace_file(tmp_path / "x.prom", b"new\n", for_others=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.prom"]


def test_a_folder_that_is_not_there_is_an_error_at_the_start_and_is_written_when_it_comes(tmp_path: Path):
    folder = tmp_path / "later"
    guarded = GuardedExporter(open_exporter(ExporterSettings(argument=str(folder))))
    shown = [at(0.0, run())]
    assert guarded.start(lambda: shown[0]) == ""
    assert not guarded.checkpoint(shown[0])
    shown[0] = at(1.0, run())
    assert not guarded.checkpoint(shown[0]), "a failure is tried again at once, so that it is one state"
    assert guarded.errors == 3
    folder.mkdir()
    shown[0] = at(2.0, run())
    assert guarded.checkpoint(shown[0])
    assert joules(folder, "mine") == 500.0


def test_one_run_s_failure_does_not_keep_the_others_back(tmp_path: Path):
    (tmp_path / "carbonmon-a.prom").mkdir()
    exporter = opened(tmp_path, at(0.0))
    with pytest.raises(OSError, match=r"carbonmon-a\.prom"):
        exporter.finish(at(0.0, run("a"), run("b")))
    assert joules(tmp_path, "b") == 500.0


def test_only_what_is_safe_on_disk_is_written_but_for_the_end_of_a_run(tmp_path: Path):
    exporter = TextfileExporter(tmp_path, {})
    safe = at(100.0, run(energy_j=100.0), continued=True)
    exporter.start(lambda: safe)
    exporter.checkpoint(at(200.0, run(energy_j=200.0), continued=True))
    assert joules(tmp_path, "mine") == 100.0
    exporter.checkpoint(at(300.0, ended(run(energy_j=300.0)), continued=True))
    assert joules(tmp_path, "mine") == 300.0
    exporter.checkpoint(at(400.0, ended(run(energy_j=300.0)), continued=True))
    assert joules(tmp_path, "mine") == 300.0, "an older snapshot never follows a newer one"


@pytest.mark.parametrize("run_folders", [{}, {"a": Path("a"), "b": Path("b")}])
def test_the_place_is_a_pattern_unless_there_is_exactly_one_run(tmp_path: Path, run_folders: dict[str, Path]):
    settings = ExporterSettings(run_folders=run_folders, argument=str(tmp_path))
    assert open_exporter(settings).start(snapshot) == str(tmp_path / "carbonmon-*.prom")
    settings = ExporterSettings(run_folders={"a": Path("a")}, argument=str(tmp_path))
    assert open_exporter(settings).start(snapshot) == str(tmp_path / "carbonmon-a.prom")


def test_a_folder_must_be_named():
    with pytest.raises(ConfigError, match=r"textfile needs a folder.*textfile:/var/lib/node_exporter"):
        open_exporter(ExporterSettings())

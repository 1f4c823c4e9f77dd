"""Which processes are on AMD's cards, by the simulated library beside recorded files of /proc."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from carbonmon.core.ports import Roots
from carbonmon.hardware.amdsmi import library
from carbonmon.hardware.workload import NodeWorkload
from carbonmon.hardware.workload.amd_processes import AmdProcesses
from carbonmon.hardware.workload.drm_clients import DrmProcesses
from tests.simulator import Constant, Simulator, can_build
from tests.simulator.boards import MI300X, MOMENT, address, amd_gpu
from tests.simulator.hwmon import Chip
from tests.simulator.rocm import Rocm, RocmProcess
from tests.support.harness import Monitor
from tests.support.rocm import Here, rocm_here

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

IDS = ["GPU-a0b1c2d3e4f50000", "GPU-a0b1c2d3e4f50001"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Here]:
    yield from rocm_here(monkeypatch, tmp_path)


def chips() -> list[Chip]:
    return [amd_gpu(place, Constant(300.0), model=MI300X, level=MOMENT) for place in range(2)]


@pytest.fixture
def rocm(here: Here) -> Iterator[Rocm]:
    with Simulator(chips=chips()) as machine:
        machine.freeze()
        yield here(Rocm(machine))


@pytest.fixture
def listed(rocm: Rocm, tmp_path: Path) -> Iterator[AmdProcesses]:
    (tmp_path / "proc").mkdir()
    drm = DrmProcesses(tmp_path / "proc", {address(place): IDS[place] for place in range(2)})
    with closing(AmdProcesses(library.acquire(), rocm.machine.sysfs, frozenset(IDS), drm)) as found:
        yield found


def test_a_process_is_on_the_cards_that_it_uses_and_not_on_those_that_it_only_opened(
    rocm: Rocm, listed: AmdProcesses
):
    rocm.cards[0].set_processes(RocmProcess(10), RocmProcess(11, memory_bytes=1 << 20))
    rocm.cards[1].set_processes(RocmProcess(11, compute_units=3, memory_bytes=0))
    assert listed.processes(0.0) == {IDS[0]: {10}, IDS[1]: {11}}


def test_occupied_compute_units_are_the_utilisation(rocm: Rocm, listed: AmdProcesses):
    rocm.cards[0].set_processes(RocmProcess(10, 228), RocmProcess(11, 76), RocmProcess(12, 0))
    listed.processes(0.0)
    assert listed.utilization(IDS[0], 1.0) == {10: 0.75, 11: 0.25, 12: 0.0}


def test_processes_of_all_partitions_are_on_the_card(here: Here, tmp_path: Path):
    (tmp_path / "proc").mkdir()
    with Simulator(chips=chips()) as machine:
        machine.freeze()
        rocm = here(Rocm(machine, partitions=4))
        rocm.cards[1].set_processes(RocmProcess(10, 38, partition=3), RocmProcess(10, 38, partition=0))
        drm = DrmProcesses(tmp_path / "proc", {address(1): IDS[1]})
        with closing(AmdProcesses(library.acquire(), machine.sysfs, frozenset(IDS[1:]), drm)) as listed:
            assert listed.processes(0.0) == {IDS[1]: {10}}
            assert listed.utilization(IDS[1], 1.0) == {10: 0.25}


def test_what_the_library_does_not_tell_fdinfo_does(rocm: Rocm, listed: AmdProcesses, tmp_path: Path):
    rocm.cards[0].set_processes(RocmProcess(10, 10))
    rocm.cards[1].set_processes(RocmProcess(11, 10))
    rocm.cards[1].fault(process_error=2)
    folder = tmp_path / "proc/12"
    (folder / "fd").mkdir(parents=True)
    (folder / "fdinfo").mkdir()
    (folder / "fd/5").symlink_to("/dev/dri/renderD129")
    (folder / "fdinfo/5").write_text(
        f"drm-driver:\tamdgpu\ndrm-pdev:\t{address(1)}\ndrm-client-id:\t7\ndrm-memory-vram:\t4194304 KiB\n"
    )
    assert listed.processes(0.0) == {IDS[0]: {10}, IDS[1]: {12}}
    assert listed.utilization(IDS[1], 1.0) == {12: 0.0}
    rocm.cards[1].fault(process_error=0)
    assert listed.processes(5.0) == {IDS[0]: {10}, IDS[1]: {11, 12}}, (
        "either sees one that the other does not"
    )
    assert listed.utilization(IDS[1], 6.0) == {12: 0.0}, "of 12 the library does not say how much it occupies"


def test_a_process_that_fdinfo_hides_is_told_where_the_library_lists_it(
    rocm: Rocm, listed: AmdProcesses, monkeypatch: pytest.MonkeyPatch
):
    def denied(self: DrmProcesses, now_s: float) -> dict[str, frozenset[int]]:
        self.hidden = frozenset((10, 20))
        return dict.fromkeys(IDS, frozenset())

    monkeypatch.setattr(DrmProcesses, "processes", denied)
    rocm.cards[0].set_processes(RocmProcess(10))
    assert listed.processes(0.0)[IDS[0]] == {10}
    assert listed.hidden == {20}


def test_handles_that_became_void_are_found_again(rocm: Rocm, listed: AmdProcesses):
    rocm.cards[0].set_processes(RocmProcess(10))
    assert listed.processes(0.0)[IDS[0]] == {10}
    used = library.acquire()
    used.initialise_again()
    library.release()
    assert listed.processes(5.0)[IDS[0]] == {10}


def test_a_run_that_shares_a_card_gets_its_part_by_compute_units(rocm: Rocm):
    machine = rocm.machine
    with ExitStack() as closing_all:
        monitor = closing_all.enter_context(Monitor(machine, sensors=("amdsmi",)))
        workload = NodeWorkload(Path("/proc"), machine.sysfs, monitor.sensors.devices)
        closing_all.callback(workload.close)
        child = closing_all.enter_context(subprocess.Popen(["sleep", "60"]))
        closing_all.callback(child.kill)
        workload.add("mine", Roots(pids=(child.pid,)))
        rocm.cards[0].set_processes(RocmProcess(child.pid, 76), RocmProcess(os.getppid(), 228))
        usage = workload.read(1.0)
        assert usage.runs["mine"].gpus[IDS[0]].sm_ratio == 0.25
        assert usage.others == {IDS[0]: 0.75}
        assert IDS[1] not in usage.runs["mine"].gpus

"""Whose processes are on which TPU or Neuron device: those that have its file open."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from carbonmon.core.model import Device
from carbonmon.core.ports import Roots
from carbonmon.hardware import neuron_devices
from carbonmon.hardware.workload import NodeWorkload
from carbonmon.hardware.workload.device_files import DeviceFileProcesses
from carbonmon.hardware.workload.holders import HIDDEN, GpuHolders
from tests.simulator.neuron import NeuronTree
from tests.simulator.tpu import V5E, TpuTree

FILES = {"/dev/vfio/10": "TPU-a", "/dev/vfio/11": "TPU-b"}


def hold(proc: Path, pid: int, *files: str) -> None:
    folder = proc / str(pid) / "fd"
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        (folder / str(number)).symlink_to(file)


def test_a_process_is_on_the_devices_whose_files_it_has_open(tmp_path: Path):
    hold(tmp_path, 10, "/dev/null", "/dev/vfio/10", "/dev/vfio/vfio")
    hold(tmp_path, 11, "/dev/vfio/10", "/dev/vfio/11")
    hold(tmp_path, 12, "/dev/vfio/100", "/srv/dev/vfio/10")
    (tmp_path / "self").mkdir()
    lister = DeviceFileProcesses(tmp_path, FILES)
    assert lister.processes(0.0) == {"TPU-a": {10, 11}, "TPU-b": {11}}
    assert lister.hidden == frozenset()
    assert lister.utilization("TPU-a", 0.0) is None


@pytest.mark.parametrize("part", ["folder", "links"])
def test_a_process_that_may_not_be_looked_into_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
):
    hold(tmp_path, 10, "/dev/vfio/10")
    hold(tmp_path, 11, "/dev/vfio/11")
    scandir: Callable[[Path], object] = os.scandir
    readlink = Path.readlink

    def refuse(folder: Path) -> object:
        if folder == tmp_path / "11" / "fd" and part == "folder":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    def refuse_link(path: Path) -> Path:
        if path.parent == tmp_path / "11" / "fd" and part == "links":
            raise PermissionError(13, "Permission denied")
        return readlink(path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(Path, "readlink", refuse_link)
    gpus = {gpu: Device(gpu, "gpu", "TPU v5e", place) for place, gpu in enumerate(FILES.values())}
    lister = DeviceFileProcesses(tmp_path, FILES)
    holders = GpuHolders(gpus, True, others=dict.fromkeys(gpus, lister))
    allocations = dict.fromkeys(("seen", "hidden"))
    holders.poll(0.0, allocations)
    claims, _ = holders.claims(0.0, allocations, {10: "seen", 11: "hidden"}.get)
    assert {run: set(held) for run, held in claims.items()} == {"seen": {"TPU-a"}, "hidden": {"TPU-b"}}
    assert holders.notes() == (HIDDEN,)


def test_processes_and_files_that_vanish_meanwhile_are_no_error(tmp_path: Path):
    hold(tmp_path, 10, "/dev/vfio/10")
    (tmp_path / "11").mkdir()
    (tmp_path / "12").write_text("no folder")
    (tmp_path / "10" / "fd" / "7").write_text("no link")
    assert DeviceFileProcesses(tmp_path, FILES).processes(0.0)["TPU-a"] == {10}


def test_each_run_of_a_node_holds_the_devices_of_its_own_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tree = NeuronTree(tmp_path / "sys", 3)
    files = tmp_path / "dev"
    files.mkdir()
    monkeypatch.setattr(
        neuron_devices.NeuronDevice, "file", property(lambda self: str(files / f"neuron{self.number}"))
    )
    devices = {f"neuron{n}": Device(f"neuron{n}", "gpu", "AWS Trainium1", n) for n in range(3)}
    jobs = []
    for number in range(2):
        (files / f"neuron{number}").touch()
        with (files / f"neuron{number}").open() as opened:
            jobs.append(subprocess.Popen(["sleep", "60"], stdin=opened))
    try:
        with closing(NodeWorkload(Path("/proc"), tree.sysfs, devices)) as workload:
            for number, job in enumerate(jobs):
                workload.add(f"run-{number}", Roots(pids=(job.pid,)))
            usage = workload.read(0.0)
            held = {run_id: set(used.gpus) for run_id, used in usage.runs.items()}
            assert held == {"run-0": {"neuron0"}, "run-1": {"neuron1"}}
            assert workload.notes() == ()
    finally:
        for job in jobs:
            job.kill()
            job.wait()


def test_where_no_such_device_is_metered_nobody_looks(tmp_path: Path):
    tree = TpuTree(tmp_path / "sys", V5E, 2)
    card = Device("GPU-0000:10:00.0", "gpu", "MI210", 0)
    with closing(NodeWorkload(Path("/proc"), tree.sysfs, {card.id: card})) as workload:
        assert workload._by_device_files() == {}

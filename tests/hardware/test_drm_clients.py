"""Which processes are on a GPU of AMD or Intel, by recorded files of /proc/PID/fdinfo."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from carbonmon.core.attribution import SM_NOTE, split_gpu
from carbonmon.core.model import Device, GpuClaim
from carbonmon.hardware.workload.drm_clients import DrmProcesses
from carbonmon.hardware.workload.holders import HIDDEN, GpuHolders

FIRST, SECOND = "0000:10:00.0", "0000:11:00.0"
IDS = {FIRST: "GPU-a", SECOND: "GPU-b"}


class Proc:
    """A /proc with processes that have files of DRM open."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "proc"
        self.root.mkdir()

    def client(self, pid: int, file: int, client: int, address: str, *entries: str) -> None:
        folder = self.root / str(pid)
        for name in ("fd", "fdinfo"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        link = folder / "fd" / str(file)
        if not link.is_symlink():
            link.symlink_to("/dev/dri/renderD128")
        lines = ["pos:\t0", "flags:\t02100002", "drm-driver:\tamdgpu", f"drm-pdev:\t{address}"]
        text = "\n".join([*lines, f"drm-client-id:\t{client}", *entries])
        (folder / "fdinfo" / str(file)).write_text(text + "\n")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def engine(name: str, seconds: float) -> str:
    return f"drm-engine-{name}:\t{seconds * 1e9:.0f} ns"


def test_a_process_is_on_the_gpus_that_it_uses_and_not_on_those_that_it_only_opened(proc: Proc):
    proc.client(10, 5, 1, FIRST, engine("gfx", 0.0), "drm-memory-vram:\t4194304 KiB")
    proc.client(10, 6, 2, SECOND, engine("gfx", 0.0), "drm-memory-vram:\t512 KiB", "drm-memory-cpu:\t9 GiB")
    proc.client(11, 5, 3, SECOND, engine("compute", 0.001))
    (proc.root / "12" / "fd").mkdir(parents=True)
    (proc.root / "12" / "fd" / "3").symlink_to("/dev/null")
    drm = DrmProcesses(proc.root, IDS)
    assert drm.processes(0.0) == {"GPU-a": {10}, "GPU-b": {11}}


def test_the_time_of_engines_since_the_last_look_is_the_utilisation(proc: Proc):
    drm = DrmProcesses(proc.root, IDS)
    proc.client(10, 5, 1, FIRST, engine("compute", 100.0), engine("dma", 3.0))
    proc.client(11, 5, 2, FIRST, engine("compute", 7.0))
    assert drm.processes(0.0)["GPU-a"] == {10, 11}
    proc.client(10, 5, 1, FIRST, engine("compute", 101.2), engine("dma", 3.1))
    proc.client(11, 5, 2, FIRST, engine("compute", 7.4))
    assert drm.utilization("GPU-a", 2.0) == {10: pytest.approx(0.6), 11: pytest.approx(0.2)}
    assert drm.utilization("GPU-a", 3.0) == {10: 0.0, 11: 0.0}
    assert drm.utilization("GPU-b", 3.0) == {}


def test_the_busiest_engine_counts_and_a_kind_of_several_engines_is_not_more_than_one(proc: Proc):
    drm = DrmProcesses(proc.root, IDS)
    proc.client(10, 5, 1, FIRST, engine("video", 1.0), "drm-engine-capacity-video:\t2", engine("render", 1.0))
    drm.processes(0.0)
    proc.client(10, 5, 1, FIRST, engine("video", 2.6), "drm-engine-capacity-video:\t2", engine("render", 1.5))
    assert drm.utilization("GPU-a", 1.0) == {10: pytest.approx(0.8)}


def test_xe_tells_cycles_of_cycles(proc: Proc):
    drm = DrmProcesses(proc.root, IDS)
    proc.client(10, 5, 1, FIRST, "drm-cycles-ccs:\t1000", "drm-total-cycles-ccs:\t100000")
    drm.processes(0.0)
    proc.client(10, 5, 1, FIRST, "drm-cycles-ccs:\t16000", "drm-total-cycles-ccs:\t120000")
    assert drm.utilization("GPU-a", 999.0) == {10: pytest.approx(0.75)}


def test_one_client_that_is_open_several_times_counts_once(proc: Proc):
    drm = DrmProcesses(proc.root, IDS)
    for pid, file in ((10, 5), (10, 6), (11, 5)):
        proc.client(pid, file, 1, FIRST, engine("gfx", 1.0))
    assert drm.processes(0.0)["GPU-a"] == {10}
    for pid, file in ((10, 5), (10, 6), (11, 5)):
        proc.client(pid, file, 1, FIRST, engine("gfx", 1.5))
    assert drm.utilization("GPU-a", 1.0) == {10: pytest.approx(0.5)}


def test_a_time_that_falls_for_a_moment_is_not_counted_again(proc: Proc):
    drm = DrmProcesses(proc.root, IDS)
    proc.client(10, 5, 1, FIRST, engine("gfx", 10.0))
    drm.processes(0.0)
    for seconds in (9.0, 10.0):
        proc.client(10, 5, 1, FIRST, engine("gfx", seconds))
        assert drm.utilization("GPU-a", seconds) == {10: 0.0}


@pytest.mark.parametrize(
    "text", ["", "\0\xff", "drm-pdev:\t0000:10:00.0\n", "drm-client-id: 3\n", "drm-pdev:\n"]
)
def test_what_is_no_client_is_none(proc: Proc, text: str):
    proc.client(10, 5, 1, FIRST)
    (proc.root / "10" / "fdinfo" / "5").write_text(text)
    drm = DrmProcesses(proc.root, IDS)
    assert drm.processes(0.0) == {"GPU-a": frozenset(), "GPU-b": frozenset()}


def test_a_process_that_ends_between_two_looks_is_no_error(proc: Proc):
    drm = DrmProcesses(proc.root, IDS)
    proc.client(10, 5, 1, FIRST, engine("gfx", 10.0))
    drm.processes(0.0)
    (proc.root / "10" / "fdinfo" / "5").unlink()
    assert drm.utilization("GPU-a", 1.0) == {}
    assert drm.processes(1.0)["GPU-a"] == frozenset()


def test_a_run_whose_processes_may_not_be_looked_into_holds_every_gpu_and_a_note_says_why(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
):
    gpus = {gpu: Device(gpu, "gpu", "MI210", place) for place, gpu in enumerate(IDS.values())}
    holders = GpuHolders(gpus, True, DrmProcesses(proc.root, IDS), frozenset(gpus))
    proc.client(10, 5, 1, FIRST, engine("compute", 1.0))
    proc.client(11, 5, 2, FIRST, engine("compute", 1.0))
    scandir: Callable[[Path], object] = os.scandir

    def refuse(folder: Path) -> object:
        if folder == proc.root / "11" / "fd":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    allocations: dict[str, dict[str, float] | None] = {"seen": None, "hidden": None, "given": {"GPU-b": 1.0}}
    holders.poll(0.0, allocations)
    claims, _ = holders.claims(0.0, allocations, {10: "seen", 11: "hidden"}.get)
    assert {run: set(held) for run, held in claims.items()} == {
        "seen": {"GPU-a"},
        "hidden": {"GPU-b"},  # on the other one is a run that is seen there
        "given": {"GPU-b"},
    }
    assert holders.notes() == (HIDDEN,)


def test_two_runs_on_one_gpu_share_it_by_the_time_of_its_engines(proc: Proc):
    gpus = {gpu: Device(gpu, "gpu", "MI210", place) for place, gpu in enumerate(IDS.values())}
    holders = GpuHolders(gpus, False, DrmProcesses(proc.root, IDS), frozenset(gpus))
    owners = {10: "one", 11: "other"}
    proc.client(10, 5, 1, FIRST, engine("compute", 1.0))
    proc.client(11, 5, 2, FIRST, engine("compute", 1.0))
    proc.client(12, 5, 3, SECOND, engine("compute", 1.0))
    allocations = dict.fromkeys(("one", "other"))
    holders.poll(0.0, allocations)
    holders.claims(0.0, allocations, owners.get)
    proc.client(10, 5, 1, FIRST, engine("compute", 1.6))
    proc.client(11, 5, 2, FIRST, engine("compute", 1.2))
    holders.poll(1.0, allocations)
    claims, others = holders.claims(1.0, allocations, owners.get)
    assert claims["one"]["GPU-a"] == GpuClaim(1.0, pytest.approx(0.6), "its processes")
    assert "GPU-b" not in claims["one"] and others == {"GPU-b": None}
    shares = split_gpu({run: held["GPU-a"] for run, held in claims.items()}, 0.0)
    assert {run: (round(share.ratio, 6), share.note) for run, share in shares.items()} == {
        "one": (0.75, SM_NOTE),
        "other": (0.25, SM_NOTE),
    }
    assert holders.notes() == ()

"""Who uses the node, as a whole: runs by processes and by cgroup, GPUs, allocations and namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Device, GpuClaim, ResumePoint
from carbonmon.core.ports import Roots, Workload
from carbonmon.hardware.workload import NodeWorkload, namespaces
from tests.simulator import Constant, Gpu, Mig, Process, Simulator, can_build
from tests.simulator.boards import amd_gpu

PROC = Path("/proc")
SYS = Path("/sys")
BURN = """
import sys, time
until = 0.2
while time.process_time() < until: pass
print('used', flush=True)
while sys.stdin.readline() == 'more\\n':
    until = time.process_time() + 0.2
    while time.process_time() < until: pass
    print('used', flush=True)
"""


def burn(child: subprocess.Popen[str]) -> None:
    """Let the child use 0.2 s more."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("more\n")
    child.stdin.flush()
    child.stdout.readline()


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that has used 0.2 s when it is handed out."""
    with subprocess.Popen([sys.executable, "-S", "-c", BURN], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def gpu_devices(machine: Simulator) -> dict[str, Device]:
    devices = {gpu.uuid: Device(gpu.uuid, "gpu", gpu.spec.name, i) for i, gpu in enumerate(machine.gpus)}
    return {**devices, "package-0": Device("package-0", "cpu", "CPU")}


# ---- runs ----


def test_a_run_gets_what_its_processes_use_from_its_beginning_on():
    script = 'read begin; "$0" -S -c "$1" </dev/null; read end'
    with (
        closing(NodeWorkload(PROC, SYS, {})) as workload,
        subprocess.Popen(
            ["sh", "-c", script, sys.executable, BURN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as job,
    ):
        assert job.stdin is not None
        assert job.stdout is not None
        follows: Workload = workload
        follows.add("run", Roots((job.pid,)))
        assert follows.read(0.0).runs["run"].processes == 1
        job.stdin.write("\n")
        job.stdin.flush()
        assert job.stdout.readline() == "used\n"
        usage = follows.read(1.0)
        used = usage.runs["run"]
        job.kill()
        assert used.cpu_s == pytest.approx(0.22, abs=0.05)
        assert (used.gpus, usage.others) == ({}, {})
        assert usage.busy_s is not None
        assert usage.busy_s + 0.03 > used.cpu_s
        assert usage.capacity_s >= usage.busy_s


def test_a_run_that_is_removed_is_no_more_and_an_unknown_one_is_no_error(child: subprocess.Popen[str]):
    with closing(NodeWorkload(PROC, SYS, {})) as workload:
        workload.add("run", Roots(pids=(child.pid,)))
        assert (workload.alive("run"), workload.alive("other")) == (1, 0)
        workload.join("other", Roots(pids=(child.pid,)))
        workload.remove("other")
        assert set(workload.read(0.0).runs) == {"run"}
        child.kill()
        child.wait()
        assert workload.read(1.0).runs["run"].processes == workload.alive("run") == 0
        workload.remove("run")
        assert workload.read(2.0).runs == {}


def test_a_run_that_begins_in_another_thread_during_a_reading_is_in_the_next_one(
    child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    """A job does not wait for a sampling thread that is slow: its run begins in the job's own thread."""
    with closing(NodeWorkload(PROC, SYS, {})) as workload:
        workload.add("first", Roots(wrappers=(os.getpid(),)))
        read = workload._node.read

        def meanwhile(now_s: float) -> tuple[float | None, float]:
            workload.add("second", Roots(pids=(child.pid,)))
            return read(now_s)

        monkeypatch.setattr(workload._node, "read", meanwhile)
        assert set(workload.read(0.0).runs) == {"first"}
        monkeypatch.setattr(workload._node, "read", read)
        burn(child)
        runs = workload.read(1.0).runs
        assert set(runs) == {"first", "second"}
        assert runs["second"].cpu_s == pytest.approx(0.2, abs=0.05), "all of it since it began"


def test_a_cgroup_s_time_counts_and_not_that_of_its_processes(tmp_path: Path, child: subprocess.Popen[str]):
    folder = tmp_path / "fs/cgroup/job"
    folder.mkdir(parents=True)

    def write(usage_s: float, *pids: int) -> None:
        (folder / "cpu.stat").write_text(f"usage_usec {usage_s * 1e6:.0f}\n")
        (folder / "cgroup.procs").write_text("\n".join(map(str, pids)))

    write(10.0, child.pid)
    with closing(NodeWorkload(PROC, tmp_path, {})) as workload:
        workload.add("run", Roots(cgroup=workload.find_cgroup("/job"), pids=(child.pid,)))
        write(13.0, child.pid, 7)
        assert workload.alive("run") == 1
        usage = workload.read(0.0).runs["run"]
        assert (usage.cpu_s, usage.processes) == (pytest.approx(3.0), 2)
        (folder / "cpu.stat").write_text("")
        assert workload.read(1.0).runs["run"].cpu_s is None
        with pytest.raises(ConfigError):
            workload.find_cgroup("nowhere")


def test_the_user_of_a_process_is_told_and_a_missing_one_raises(child: subprocess.Popen[str]):
    with closing(NodeWorkload(PROC, SYS, {})) as workload:
        assert workload.user_of(child.pid) == os.geteuid()
        child.kill()
        child.wait()
        with pytest.raises(OSError):
            workload.user_of(child.pid)


# ---- GPUs ----

needs_simulator = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")


@needs_simulator
def test_gpus_follow_the_processes_of_runs_and_of_cgroups(
    tmp_path: Path, child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("carbonmon.hardware.workload.shows_host_pids", lambda procfs: True)
    folder = tmp_path / "fs/cgroup/job"
    folder.mkdir(parents=True)
    (folder / "cpu.stat").write_text("usage_usec 0\n")
    (folder / "cgroup.procs").write_text("777\n")
    on_first = [Process(child.pid, sm_percent=60), Process(777, sm_percent=20), Process(999, sm_percent=10)]
    with Simulator(gpus=[Gpu(processes=on_first), Gpu()]) as machine:
        machine.freeze()
        machine.preload()
        first, second = (gpu.uuid for gpu in machine.gpus)
        with closing(NodeWorkload(PROC, tmp_path, gpu_devices(machine))) as workload:
            workload.add("trees", Roots(pids=(child.pid,)))
            workload.add("groups", Roots(cgroup=folder, gpus={second: 1.0}))
            usage = workload.read(0.0)
            assert usage.runs["trees"].gpus == {first: GpuClaim(1.0, pytest.approx(0.6), "its processes")}
            assert usage.runs["groups"].gpus == {
                first: GpuClaim(1.0, pytest.approx(0.2), "its processes"),
                second: GpuClaim(1.0, None, "allocated"),
            }
            assert usage.others == {first: pytest.approx(0.1)}
            assert workload.notes() == ()


@needs_simulator
def test_where_gpu_processes_cannot_be_told_every_run_holds_every_gpu_and_a_note_says_why(
    child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("carbonmon.hardware.workload.shows_host_pids", lambda procfs: False)
    with Simulator(gpus=[Gpu(), Gpu()]) as machine:
        machine.preload()
        with closing(NodeWorkload(PROC, SYS, gpu_devices(machine))) as workload:
            workload.add("run", Roots(pids=(child.pid,)))
            assert set(workload.read(0.0).runs["run"].gpus) == {gpu.uuid for gpu in machine.gpus}
            assert "mount the host's /proc" in workload.notes()[0]


@needs_simulator
def test_an_allocation_is_resolved_among_the_metered_gpus():
    with Simulator(gpus=[Gpu(pci_bus=0x80), Gpu(pci_bus=0x10, mig=[Mig(), Mig()])]) as machine:
        machine.preload()
        on_80, on_10 = machine.gpus
        with closing(NodeWorkload(PROC, SYS, gpu_devices(machine))) as workload:
            assert workload.allocation(None, {}) is None
            assert workload.allocation(("0",), {}) == {on_80.uuid: 1.0}
            assert workload.allocation(None, {"CUDA_VISIBLE_DEVICES": "1"}) == {on_80.uuid: 1.0}
            first = {"CUDA_VISIBLE_DEVICES": "0"}
            assert workload.allocation(None, first) == {on_10.uuid: pytest.approx(1 / 7)}
            assert workload.allocation(None, {"SLURM_JOB_GPUS": "1"}) is None
            assert "cannot be mapped where a GPU is in MIG mode (GPU 1)" in workload.notes()[0]
            assert workload.allocation(None, {"CUDA_VISIBLE_DEVICES": ""}) == {}
            mig = {"CUDA_VISIBLE_DEVICES": on_10.mig_uuids[1]}
            assert workload.allocation(None, mig) == {on_10.uuid: pytest.approx(1 / 7)}
            assert workload.notes() == ()
            with pytest.raises(ConfigError, match="--gpus 5: no such GPU here; there are 0 GPU-"):
                workload.allocation(("5",), {})
        metered = {on_80.uuid: gpu_devices(machine)[on_80.uuid]}
        with closing(NodeWorkload(PROC, SYS, metered)) as workload:
            assert workload.allocation(("0", "1"), {}) == {on_80.uuid: 1.0}
        machine.fault(init_error=9)
        stated = {"gpu-0": Device("gpu-0", "gpu", "T4", 0), "gpu-1": Device("gpu-1", "gpu", "T4", 1)}
        with closing(NodeWorkload(PROC, SYS, stated)) as workload:
            assert workload.allocation(None, {"SLURM_JOB_GPUS": "1"}) == {"gpu-1": 1.0}
    with closing(NodeWorkload(PROC, SYS, {})) as workload:
        assert workload.allocation(("0",), {}) is None


@needs_simulator
def test_rocm_s_and_hip_s_lists_are_an_allocation_where_amd_s_gpus_are():
    with Simulator(chips=[amd_gpu(place, Constant(100.0)) for place in range(4)]) as machine:
        ids = [channel for channel in machine.channels if " " not in channel]
        gpus = {gpu: Device(gpu, "gpu", "MI210", place) for place, gpu in enumerate(ids)}
        with closing(NodeWorkload(PROC, machine.sysfs, gpus)) as workload:
            assert workload.allocation(None, {}) is None
            assert workload.allocation(None, {"ROCR_VISIBLE_DEVICES": "2,3"}) == {ids[2]: 1.0, ids[3]: 1.0}
            assert workload.allocation(None, {"CUDA_VISIBLE_DEVICES": "1"}) == {ids[1]: 1.0}
            assert workload.allocation(("1", ids[3]), {}) == {ids[1]: 1.0, ids[3]: 1.0}
            assert workload.allocation(None, {"HIP_VISIBLE_DEVICES": "7"}) == {}
            assert "no GPU '7' here" in workload.notes()[0]
            in_slurm = {"ROCR_VISIBLE_DEVICES": "0", "SLURM_JOB_GPUS": "2"}
            assert workload.allocation(None, in_slurm) is None, "0 may be the first of the job's own"
            by_name = {"ROCR_VISIBLE_DEVICES": ids[2], "SLURM_JOB_GPUS": "2"}
            assert workload.allocation(None, by_name) == {ids[2]: 1.0}


@needs_simulator
def test_a_driver_that_hangs_keeps_no_job_from_its_allocation(monkeypatch: pytest.MonkeyPatch):
    with Simulator(gpus=[Gpu(), Gpu()]) as machine:
        machine.preload()
        metered = {gpu.uuid: Device(gpu.uuid, "gpu", "A100", gpu.place + 4) for gpu in machine.gpus}
        monkeypatch.setattr("carbonmon.hardware.own_thread.OwnThread.run", lambda own, call: False)
        with closing(NodeWorkload(PROC, SYS, metered)) as workload:
            assert workload.allocation(("5",), {}) == {machine.gpus[1].uuid: 1.0}


def test_ranks_with_gpus_of_their_own_add_them_to_the_run_s_allocation():
    first, second = (Device(f"GPU-{number}", "gpu", "T4", number) for number in range(2))
    with closing(NodeWorkload(PROC, SYS, {first.id: first, second.id: second})) as workload:
        workload.add("run", Roots(gpus={first.id: 1.0}))
        workload.join("run", Roots(gpus={second.id: 0.5}))
        workload.join("run", Roots())
        workload.add("unknown", Roots())
        workload.join("unknown", Roots(gpus={second.id: 1.0}))
        points = workload.resume_points()
    assert points["run"].gpus == ((first.id, 1.0), (second.id, 0.5))
    assert points["unknown"].gpus is None, "it goes on to hold what its processes are on"


# ---- namespaces ----


def process(procfs: Path, pid: int, *nspid: int, namespace: int | None = None) -> None:
    folder = procfs / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "status").write_text("Name:\tx\nNSpid:\t" + "\t".join(map(str, nspid)) + "\n")
    if namespace is not None:
        target = procfs / f"namespace-{namespace}"
        target.touch()
        (folder / "ns/pid").symlink_to(target)


def test_our_own_proc_shows_our_pids():
    assert namespaces.shows_our_pids(PROC)
    assert namespaces.host_pid(PROC, 4242) == 4242
    assert namespaces.shows_host_pids(PROC) is (
        Path("/proc/self/ns/pid").stat().st_ino == namespaces.INIT_PID_NAMESPACE
    )


def test_a_pid_of_ours_is_found_in_the_host_s_proc(tmp_path: Path):
    process(tmp_path, 5000, 5000, os.getpid(), namespace=1)
    (tmp_path / "self").symlink_to("5000")
    process(tmp_path, 5001, 5001, 20, namespace=1)
    process(tmp_path, 5002, 5002, 21, namespace=1)
    process(tmp_path, 6002, 6002, 21, namespace=2)  # the same number in another container
    process(tmp_path, 6003, 6003, 22, namespace=2)
    process(tmp_path, 6004, 6004, 22)  # its link may not be read
    process(tmp_path, 30, 30)
    (tmp_path / "6666").mkdir()
    assert not namespaces.shows_our_pids(tmp_path)
    assert namespaces.shows_host_pids(tmp_path)
    assert namespaces.host_pid(tmp_path, os.getpid()) == 5000
    assert namespaces.host_pid(tmp_path, 20) == 5001
    assert namespaces.host_pid(tmp_path, 21) == 5002
    assert namespaces.host_pid(tmp_path, 22) is None
    assert namespaces.host_pid(tmp_path, 30) is None
    assert namespaces.host_pid(tmp_path / "nowhere", 20) is None


def test_pids_in_the_host_s_proc_are_followed_under_their_names_there(tmp_path: Path):
    process(tmp_path, 5000, 5000, os.getpid())
    (tmp_path / "self").symlink_to("5000")
    process(tmp_path, 5001, 5001, 20)
    for pid, ppid in ((5000, 1), (5001, 5000), (5002, 5001)):
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        fields = [pid, "(x)", "S", ppid, pid, pid, *[0] * 13, 1, 0, 100 + pid, 0]
        (tmp_path / str(pid) / "stat").write_text(" ".join(map(str, fields)))
    with closing(NodeWorkload(tmp_path, SYS, {})) as workload:
        workload.add("run", Roots(pids=(20,)))
        usage = workload.read(0.0)
        assert (usage.runs["run"].processes, usage.busy_s) == (2, None)
        workload.add("host", Roots(pids=(5002,)))
        assert workload.alive("host") == 1


# ---- another monitor ----


def test_a_later_monitor_tells_what_was_used_since_the_earlier_one_looked_last(child: subprocess.Popen[str]):
    """The child's first 0.2 s are before the run, the next before the outage, the last within it."""
    with closing(NodeWorkload(PROC, SYS, {})) as first:
        first.add("run", Roots(pids=(child.pid,)))
        burn(child)
        before = first.read(0.0).runs["run"].cpu_s
        point = first.resume_points()["run"]
    assert point.roots == ((child.pid, point.roots[0][1], False),)
    burn(child)
    with closing(NodeWorkload(PROC, SYS, {})) as second:
        assert second.has_process(*point.roots[0][:2])
        assert not second.has_process(child.pid, point.roots[0][1] + 1), "another process with its pid"
        second.add("run", Roots(pids=(child.pid,)), point)
        usage = second.read(0.0)
    assert before == pytest.approx(0.2, abs=0.1)
    assert usage.runs["run"].cpu_s == pytest.approx(0.2, abs=0.1)
    assert usage.busy_s is not None
    assert usage.busy_s >= 0.15, "the node's since then as well"


def test_a_new_job_of_a_run_has_no_part_in_what_the_old_one_used(child: subprocess.Popen[str]):
    with closing(NodeWorkload(PROC, SYS, {})) as workload:
        since = ResumePoint(0.0, 0.0, 1000.0, (), (), None)
        workload.add("run", Roots(pids=(child.pid,)), since)
        assert workload.read(0.0).runs["run"].cpu_s == pytest.approx(0.0, abs=0.05)

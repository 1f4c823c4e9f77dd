"""CPU time and processes of cgroups, version 1 and 2, and the node's own CPU time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.hardware.cpu_times import TICK_S
from carbonmon.hardware.workload.cgroup import Cgroup, cpu_seconds, find_cgroup
from carbonmon.hardware.workload.node_cpu import NodeCpu


def v2(folder: Path, usage_s: float, pids: tuple[int, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.stat").write_text(f"usage_usec {usage_s * 1e6:.0f}\nuser_usec 1\nsystem_usec 2\n")
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return folder


def v1(folder: Path, usage_s: float, pids: tuple[int, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpuacct.usage").write_text(f"{usage_s * 1e9:.0f}\n")
    (folder / "cpu.stat").write_text("nr_periods 0\nnr_throttled 0\nthrottled_time 0\n")
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return folder


@pytest.mark.parametrize("make", [v1, v2])
def test_what_was_used_before_is_not_told_and_what_lies_below_is_counted(tmp_path: Path, make):  # type: ignore[no-untyped-def]
    folder = make(tmp_path / "job", 100.0, (11, 12))
    make(folder / "step" / "task", 7.0, (13, 0, 0))
    group = Cgroup(folder)
    assert (group.pids, group.processes) == ({11, 12, 13}, 5)
    assert group.read() == 0.0
    make(folder, 102.5, (11,))
    assert group.read() == pytest.approx(2.5)
    assert group.pids == {11, 13}


def test_a_vanished_cgroup_is_gone_and_its_time_stays(tmp_path: Path):
    folder = v2(tmp_path / "job", 5.0, (11,))
    group = Cgroup(folder)
    v2(folder, 6.0)
    assert group.read() == pytest.approx(1.0)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert (group.read(), group.processes, group.pids) == (0.0, 0, frozenset())
    v2(folder, 0.5)  # another one of the same name
    assert group.read() == 0.0
    v2(folder, 0.75)
    assert group.read() == pytest.approx(0.25)


def test_a_cgroup_whose_time_cannot_be_read_is_unknown_and_not_zero(tmp_path: Path):
    folder = v2(tmp_path / "job", 5.0)
    group = Cgroup(folder)
    for text in ("", "usage_usec x\n", "user_usec 5\n"):
        (folder / "cpu.stat").write_text(text)
        assert group.read() is None
    v2(folder, 9.0)
    assert group.read() == pytest.approx(4.0), "the next good reading bridges the gap"


@pytest.mark.parametrize(
    ("make", "mount"), [(v2, ""), (v2, "unified"), (v1, "cpu,cpuacct"), (v1, "cpuacct"), (v1, "cpuacct,cpu")]
)
def test_a_cgroup_is_found_by_its_folder_or_by_its_path(tmp_path: Path, make, mount: str):  # type: ignore[no-untyped-def]
    base = tmp_path / "fs" / "cgroup"
    expected = make(base / mount / "slurm" / "job_7", 1.0)
    names = ["slurm/job_7", "/slurm/job_7", "slurm//job_7/", str(expected), "/sys/fs/cgroup/slurm/job_7"]
    for name in names:
        assert find_cgroup(tmp_path, name) == expected
    assert find_cgroup(tmp_path, Path("/sys/fs/cgroup") / mount / "slurm/job_7") == expected


def test_another_hierarchy_s_folder_finds_the_one_that_accounts_cpu_time(tmp_path: Path):
    expected = v1(tmp_path / "fs/cgroup/cpuacct/job", 1.0)
    (tmp_path / "fs/cgroup/unified/job").mkdir(parents=True)
    assert find_cgroup(tmp_path, "/sys/fs/cgroup/unified/job") == expected


@pytest.mark.parametrize("path", ["job", "", ".", "../../etc", "/nowhere/../.."])
def test_a_cgroup_that_is_not_there_is_named_with_what_mends_it(tmp_path: Path, path: str):
    v2(tmp_path / "fs/cgroup/other", 1.0)
    with pytest.raises(ConfigError, match=r"no such cgroup|no CPU time") as refused:
        find_cgroup(tmp_path, path)
    assert str(tmp_path / "fs/cgroup") in str(refused.value)
    assert "/proc/PID/cgroup" in str(refused.value)


def test_a_cgroup_without_cpu_time_says_so(tmp_path: Path):
    (tmp_path / "fs/cgroup/memory/job").mkdir(parents=True)
    with pytest.raises(ConfigError, match="accounts no CPU time"):
        find_cgroup(tmp_path, "memory/job")


@pytest.fixture
def real_or_fake(tmp_path: Path) -> Iterator[tuple[Path, bool]]:
    """A cgroup of the kernel's where one may be made, else one of files."""
    name = f"carbonmon-test-{os.getpid()}"
    for mount in ("", "unified", "cpu,cpuacct", "cpuacct"):
        folder = Path("/sys/fs/cgroup") / mount / name
        try:
            folder.mkdir()
        except OSError:
            continue
        if cpu_seconds(folder) is not None:
            yield folder, True
            folder.rmdir()
            return
        folder.rmdir()
    yield v2(tmp_path / name, 0.0), False


def test_the_kernel_s_own_cgroup_tells_what_a_child_in_it_used(real_or_fake: tuple[Path, bool]):
    folder, real = real_or_fake
    group = Cgroup(folder)
    code = (
        f"import os, sys, time\nopen({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "while time.process_time() < 0.2: pass\n"
        "print('used', flush=True)\nsys.stdin.readline()\n"
    )
    child = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=-1, stdout=-1, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "used\n"
        if not real:
            v2(folder, 0.2, (child.pid,))
        used_s = group.read()
        assert used_s is not None
        assert 0.1 < used_s < 0.4
        assert (group.pids, group.processes) == ({child.pid}, 1)
    finally:
        child.communicate("\n")


# ---- the node ----


def stat(tmp_path: Path, *ticks: int) -> None:
    words = " ".join(map(str, ticks))
    (tmp_path / "stat").write_text(f"cpu  {words}\ncpu0 {words}\n")


def test_idle_waiting_and_stolen_time_is_nobody_s(tmp_path: Path):
    stat(tmp_path, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    node = NodeCpu(tmp_path)
    stat(tmp_path, 10, 20, 30, 400, 50, 1, 2, 1000, 5, 6)
    assert node.read(1.0) == (pytest.approx(63 * TICK_S), pytest.approx(513 * TICK_S))
    node.close()


def test_times_that_fall_back_or_cannot_be_read_are_unknown_for_that_interval(tmp_path: Path):
    stat(tmp_path, 100, 0, 0, 100, 0, 0, 0, 0)
    node = NodeCpu(tmp_path)
    stat(tmp_path, 50, 0, 0, 50, 0, 0, 0, 0)
    assert node.read(2.0) == (None, 0.0)
    for text in ("", "cpu x y\n", "intr 1 2 3 4 5 6 7 8\n"):
        (tmp_path / "stat").write_text(text)
        assert node.read(3.0) == (None, 0.0)
    stat(tmp_path, 60, 0, 0, 60, 0, 0, 0, 0)
    assert node.read(4.0) == (None, 0.0), "there is nothing to compare with"
    stat(tmp_path, 61, 0, 0, 62, 0, 0, 0, 0)
    assert node.read(5.0) == (pytest.approx(TICK_S), pytest.approx(3 * TICK_S))
    node.close()
    assert NodeCpu(tmp_path / "nowhere").read(6.0) == (None, 0.0)

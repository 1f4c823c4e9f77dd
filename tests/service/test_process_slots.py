"""How many processes may still be started: the limits of a user and of a cgroup, and what follows."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path

import pytest

from carbonmon.service import process_slots

HERE = "0::/jobs/mine\n"


def machine(folder: Path, cgroup: str, limits: dict[str, tuple[str, int]]) -> tuple[Path, Path]:
    """/proc and /sys of a machine; `limits` has pids.max and pids.current for each folder of a cgroup."""
    procfs, sysfs = folder / "proc", folder / "sys"
    (procfs / "self").mkdir(parents=True)
    (procfs / "self/cgroup").write_text(cgroup)
    for path, (most, used) in limits.items():
        (sysfs / "fs/cgroup" / path).mkdir(parents=True, exist_ok=True)
        (sysfs / "fs/cgroup" / path / "pids.max").write_text(f"{most}\n")
        (sysfs / "fs/cgroup" / path / "pids.current").write_text(f"{used}\n")
    return procfs, sysfs


@pytest.mark.parametrize(
    ("cgroup", "limits", "free"),
    [
        (HERE, {"jobs/mine": ("10", 7)}, 3),
        (HERE, {"jobs/mine": ("max", 7)}, math.inf),
        (HERE, {"jobs/mine": ("max", 7), "jobs": ("20", 12)}, 8),
        (HERE, {".": ("30", 12)}, 18),
        ("8:pids:/mine\n0::/\n", {"pids/mine": ("10", 7)}, 3),
        ("8:pids:/../mine\n", {"pids/mine": ("10", 7)}, 3),
        ("7:cpu:/mine\n", {"pids/mine": ("10", 7)}, math.inf),
        ("what is this\n", {}, math.inf),
    ],
)
def test_the_nearest_limit_of_a_cgroup_and_those_above_it_decides(
    tmp_path: Path, cgroup: str, limits: dict[str, tuple[str, int]], free: float
):
    assert process_slots.free(*machine(tmp_path, cgroup, limits)) == free


def test_the_threads_of_a_user_count_against_its_own_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    procfs, sysfs = machine(tmp_path, HERE, {})
    for pid, threads in (("7", 3), ("8", 1)):
        for thread in range(threads):
            (procfs / pid / "task" / str(thread)).mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 1)  # root has no limit
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (10, 10))
    assert process_slots.free(procfs, sysfs) == 10 - 4
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert process_slots.free(procfs, sysfs) == math.inf


def test_threads_are_given_up_before_the_job_has_no_place_and_metering_before_it_has_none_at_all(
    tmp_path: Path,
):
    assert not process_slots.are_scarce(*machine(tmp_path / "a", HERE, {"jobs/mine": ("100", 7)}))
    assert process_slots.are_scarce(*machine(tmp_path / "b", HERE, {"jobs/mine": ("20", 7)}))
    with pytest.raises(BlockingIOError, match="only 3 more processes"):
        process_slots.are_scarce(*machine(tmp_path / "c", HERE, {"jobs/mine": ("10", 7)}))

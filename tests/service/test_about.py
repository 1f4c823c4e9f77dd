"""What a monitor says of itself: which service of systemd it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carbonmon.service.socket.about import unit

SERVICE = {"SYSTEMD_EXEC_PID": str(os.getpid())}


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("0::/system.slice/carbonmon.service\n", "carbonmon.service"),
        ("1:name=systemd:/system.slice/mine.service\n0::/\n", "mine.service"),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/carbonmon.service\n",
            "--user carbonmon.service",
        ),
        ("0::/\n", ""),
    ],
)
def test_the_service_is_named_by_its_cgroup(tmp_path: Path, cgroup: str, expected: str):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(cgroup)
    assert unit(SERVICE, tmp_path) == expected


def test_a_process_below_a_service_is_none(tmp_path: Path):
    assert unit({"SYSTEMD_EXEC_PID": "1"}, tmp_path) is None
    assert unit({}, tmp_path) is None
    assert unit(SERVICE, tmp_path) == "", "its name is unknown, and it is one"

"""The rights of each deployment: SECURITY.md states them, and no file asks for more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
SECTION = (TREE / "SECURITY.md").read_text().split("## Rights of each deployment")[1].split("\n## ")[0]
ROWS = [line.strip("| ").split(" | ") for line in SECTION.splitlines() if line.startswith("| ")][1:]
SYSTEMD = TREE / "deploy" / "systemd"
UNIT = (SYSTEMD / "carbonmon.service").read_text()


def test_each_deployment_has_a_row_and_each_row_a_test_that_is_there():
    told = " ".join(row[0] for row in ROWS).lower()
    for name in ("systemd", "image", "compose", "kubernetes", "slurm", "carbonmon run"):
        assert name in told
    kept = {path.name for path in (TREE / "deploy").iterdir() if path.is_dir()}
    assert kept - {"grafana", "prometheus"} == {"docker", "kubernetes", "slurm", "systemd"}, (
        "what runs of ours"
    )
    for row in ROWS:
        tests = re.findall(r"`(tests/[\w/]+\.py)`", row[-1])
        assert tests, row
        for test in tests:
            assert (TREE / test).is_file(), test


@pytest.mark.parametrize(
    "path", [SYSTEMD / "carbonmon.service", *SYSTEMD.glob("*.conf")], ids=lambda path: path.name
)
def test_no_file_of_systemd_gives_a_capability_or_takes_a_ban_back(path: Path):
    settings = re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE)
    for name, value in settings:
        if name in ("CapabilityBoundingSet", "AmbientCapabilities"):
            # What reads whose processes are on a device is a file of its own, for those who want it.
            reads = "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH" if path.name == "gpu-processes.conf" else ""
            assert value == reads, (name, value)
        if name == "NoNewPrivileges":
            assert value == "yes"
    if path.suffix == ".service":
        given = dict(settings)
        assert given.keys() >= {"CapabilityBoundingSet", "AmbientCapabilities", "NoNewPrivileges"}
        assert given["ProtectSystem"] == "strict"


def test_the_unit_may_write_and_open_only_what_the_row_says():
    (row,) = [row for row in ROWS if row[0].startswith("systemd")]
    assert set(re.findall(r"/var/lib/\w+|/run/\w+", row[3])) == {"/var/lib/carbonmon", "/run/carbonmon"}
    assert re.findall(r"^(?:State|Runtime)Directory=(.*)$", UNIT, re.MULTILINE) == ["carbonmon", "carbonmon"]
    assert "ReadWritePaths" not in UNIT
    assert re.findall(r"^DeviceAllow=(.*)$", UNIT, re.MULTILINE) == ["char-nvidia* rw"]
    assert re.findall(r"^IPAddress(?:Deny|Allow)=(.*)$", UNIT, re.MULTILINE) == ["any", "localhost"]


def test_no_hook_of_slurm_gains_rights():
    for path in (TREE / "deploy" / "slurm").iterdir():
        commands = re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE)
        if path.suffix == ".sh":
            assert not re.search(r"\b(sudo|setcap|chmod \+s|chmod [0-7]*777)\b", commands), path.name

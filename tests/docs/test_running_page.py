"""The page for operators: its commands work, and what it says of options, extras and files is so."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from carbonmon.client.variables import config_file
from carbonmon.core.ways import OPTIONS
from carbonmon.service.daemon import LIVE_FIELDS
from tests.support import command
from tests.support.run_folders import KWH_J, a_run

TREE = Path(__file__).resolve().parents[2]
PAGE = (TREE / "docs" / "use" / "running.md").read_text()
UNIT = (TREE / "deploy" / "systemd" / "carbonmon.service").read_text()
MIDNIGHT_S = 1_793_491_200.0
"""2026-11-01 00:00 UTC."""


def console() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [line[2:].split("   #")[0] for block in blocks for line in block.splitlines() if line[:2] == "$ "]


def example_of_options() -> str:
    return re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """/var/lib and /etc of a node: a run that ends after a month's end, others before, and one of today."""
    output = tmp_path / "var" / "lib" / "carbonmon"
    half_hours = [(MIDNIGHT_S + after_s, KWH_J / 2) for after_s in (0.0, 1800.0)]
    a_run(output, "over", start_s=MIDNIGHT_S - 1800.0, duration_s=3600.0, kwh=1.0, uid=0, drawn=half_hours)
    a_run(output, "earlier", start_s=MIDNIGHT_S - 90_000.0, duration_s=3600.0, kwh=2.0, uid=0)
    a_run(output, "old", start_s=MIDNIGHT_S - 7 * 365 * 86_400.0, kwh=8.0, uid=0)
    a_run(output, "today", start_s=time.time() - 3700.0, duration_s=3600.0, kwh=4.0, uid=0)
    (tmp_path / "etc" / "carbonmon").mkdir(parents=True)
    (tmp_path / "etc" / "carbonmon" / "carbonmon.toml").write_text(example_of_options())
    return tmp_path


def on(node: Path, line: str) -> subprocess.CompletedProcess[str]:
    """What a command of the page prints on the node."""
    for folder in ("/var/lib", "/etc/carbonmon"):
        line = line.replace(folder, f"{node}{folder}")
    path = f"{Path(command.CARBONMON).parent}:/usr/bin:/bin"
    return subprocess.run(
        ["sh", "-c", line],
        cwd=node,
        env=command.environ(PATH=path, TZ="UTC"),
        capture_output=True,
        text=True,
        timeout=command.DEADLINE_S,
        check=False,
    )


@pytest.mark.parametrize("line", console())
def test_a_command_of_the_page_works(line: str, node: Path):
    done = on(node, line)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_month_s_totals_are_cut_at_its_end(node: Path):
    (line,) = [line for line in console() if "--month" in line]
    done = on(node, f"{line} --format json")
    assert '"energy_kwh": 2.5' in done.stdout, "half of the run over the end, and the one before"


def test_what_is_old_goes_and_what_is_new_stays(node: Path):
    listed, removed = (on(node, line) for line in console() if "prune" in line)
    folders = node / "var" / "lib" / "carbonmon"
    assert "Remove them: --yes" in listed.stdout
    assert removed.returncode == 0
    left = {path.name for path in folders.iterdir()}
    assert "today" in left and "old" not in left


def test_a_backup_is_read_elsewhere(node: Path):
    (line,) = [line for line in console() if line.startswith("tar")]
    assert on(node, line).returncode == 0
    (node / "copy").mkdir()
    assert on(node, "tar --extract --file carbonmon-runs.tar --directory copy").returncode == 0
    done = on(node, "carbonmon report --output copy/carbonmon over --format json")
    assert '"id": "over"' in done.stdout


def test_the_options_that_a_reload_takes_are_those_of_the_daemon():
    (said,) = re.findall(r"A reload takes (.*?);", PAGE, re.DOTALL)
    fields = {OPTIONS[name].field for name in re.findall(r"`([\w-]+)`", said)}
    assert fields == LIVE_FIELDS


def test_the_unit_reads_the_file_that_the_page_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (folder,) = re.findall(r"^Environment=XDG_CONFIG_HOME=(.*)$", UNIT, re.MULTILINE)
    assert f"`{folder}/carbonmon/carbonmon.toml`" in PAGE
    (tmp_path / "carbonmon").mkdir()
    path = tmp_path / "carbonmon" / "carbonmon.toml"
    path.write_text(example_of_options())
    monkeypatch.chdir(tmp_path)
    assert config_file({"XDG_CONFIG_HOME": str(tmp_path)}) == str(path)


def test_the_extras_that_the_page_names_are_those_of_the_package():
    project = (TREE / "pyproject.toml").read_text()
    extras = set(
        re.findall(r"^(\w+) = \[", project.split("[project.optional-dependencies]")[1].split("\n\n")[0], re.M)
    )
    named = {each for text in re.findall(r"'\.\[([\w,]+)\]'", PAGE) for each in text.split(",")}
    assert named == extras - {"live"}, "live is kept for its name and needs nothing"


def test_every_alert_that_the_page_names_is_there():
    alerts = (TREE / "deploy" / "prometheus" / "carbonmon.alerts.yml").read_text()
    named = set(re.findall(r"`(Carbonmon\w+)`", PAGE))
    assert len(named) >= 4
    assert [name for name in named if f"alert: {name}\n" not in alerts] == []


def test_every_folder_that_the_unit_makes_is_told_to_who_uninstalls():
    uninstall = PAGE.split("## Uninstall")[1].split("\n## ")[0]
    for place in ("/opt/carbonmon", "/etc/carbonmon", "/var/lib/carbonmon", "carbonmon.service"):
        assert place in uninstall

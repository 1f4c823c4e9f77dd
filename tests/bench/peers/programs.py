"""The programs that are compared: how each is started around a job, and where its joules are."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import command

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ROOT / "build/peers"
J_PER_KWH = 3.6e6


class Program(NamedTuple):
    """`requirement` is pip's, "" for this checkout. `start` makes the command around a job that sleeps so
    many seconds, with a folder for its files. `joules` reads what these say; None if they say nothing."""

    name: str
    requirement: str
    shape: str
    start: Callable[[Path, str, Path], Sequence[str]]
    joules: Callable[[Path], float | None]

    @property
    def binaries(self) -> Path:
        return ENVIRONMENTS / self.name / "bin" if self.requirement else Path(sys.executable).parent

    def install(self) -> None:
        """An environment of its own, once for each release."""
        done = ENVIRONMENTS / self.name / self.requirement
        if not self.requirement or done.exists():
            return
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENTS / self.name], check=True)
        subprocess.run([self.binaries / "python", "-m", "pip", "install", "-q", self.requirement], check=True)
        done.touch()


def _carbonmon(binaries: Path, seconds: str, folder: Path) -> Sequence[str]:
    """The whole node is the run's, as it is with the others: a job that sleeps would have no part in it."""
    own = ["--quiet", "--region", "FR", "--idle", "exclusive", "--output", str(folder)]
    return [command.CARBONMON, "run", *own, "--", "sleep", seconds]


def _carbonmon_j(folder: Path) -> float | None:
    """What `carbonmon report` says: of a run that was killed, its last checkpoint."""
    (run,) = folder.iterdir()
    report = [command.CARBONMON, "report", str(run), "--format", "json"]
    said = subprocess.run(report, capture_output=True, check=True, text=True).stdout
    return float(json.loads(said)["energy"]["total_j"])


def _joules(binaries: Path, seconds: str, folder: Path) -> Sequence[str]:
    return [
        str(binaries / "joules"),
        "run",
        "--grid",
        "fr",
        "--out",
        str(folder / "out.json"),
        "--",
        "sleep",
        seconds,
    ]


def _joules_j(folder: Path) -> float | None:
    file = folder / "out.json"
    return float(json.loads(file.read_text())["totals"]["devices_j"]) if file.exists() else None


def _tracked(binaries: Path, seconds: str, folder: Path) -> Sequence[str]:
    script = Path(__file__).parent / "in_process.py"
    return [str(binaries / "python"), str(script), binaries.parent.name, seconds, str(folder / "joules")]


def _told_j(folder: Path) -> float | None:
    """What the tracker told at the end."""
    file = folder / "joules"
    return float(file.read_text()) if file.exists() else None


def _codecarbon_j(folder: Path) -> float | None:
    file = folder / "emissions.csv"
    if not file.exists():
        return None
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return float(rows[-1]["energy_consumed"]) * J_PER_KWH if rows else None


def _zeus_j(folder: Path) -> float | None:
    file = folder / "zeus.csv"
    rows = file.read_text().splitlines()[1:] if file.exists() else []
    return _told_j(folder) if rows else None


def _carbontracker_j(folder: Path) -> float | None:
    """Its own figure, without the PUE of 1.58 that it multiplies with."""
    told_j = _told_j(folder)
    if told_j is not None:
        return told_j / 1.58
    logs = "".join(file.read_text() for file in folder.glob("*_carbontracker.log"))
    powers = re.findall(r"Average power usage \(W\) for \w+: ([0-9.]+)", logs)
    return sum(map(float, powers)) if powers else None


PROGRAMS = (
    Program("carbonmon", "", "command", _carbonmon, _carbonmon_j),
    Program("joules", "landauer-gap==0.8.0", "command", _joules, _joules_j),
    Program("codecarbon", "codecarbon==3.3.2", "in the training process", _tracked, _codecarbon_j),
    Program("zeus", "zeus==0.16.0", "in the training process", _tracked, _zeus_j),
    Program("carbontracker", "carbontracker==2.4.7", "in the training process", _tracked, _carbontracker_j),
)

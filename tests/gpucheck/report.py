"""The check's JSON and its page of text.

The JSON, `carbonmon.gpu-check/1`: `schema`, `simulated` (bool), `state` (running, finished, interrupted),
`started_at` (RFC 3339), `duration_s`, `plan` (seconds and counts), `machine` and `versions` (texts by name),
`missing` ({part, consequence}), `counts` (figures by verdict) and `figures`: group, name, value (number, text
or null), unit, expected (text), verdict (as expected, NOT as expected, not available, noted), source of the
expectation, note, and parts: numbers of a value that is a text. What is not known is null, never 0.
"""

from __future__ import annotations

import json
import os
import platform
import re
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

from carbonmon import __version__
from tests.gpucheck.figures import AS_EXPECTED, NOT_AS_EXPECTED, NOT_AVAILABLE, NOTED, Book, Figure, number
from tests.gpucheck.plan import Plan

SCHEMA = "carbonmon.gpu-check/1"
VERDICTS = (AS_EXPECTED, NOT_AS_EXPECTED, NOT_AVAILABLE, NOTED)
PACKAGES = (
    *("nvidia-ml-py", "click", "prometheus-client", "psutil", "pyRAPL"),
    *("torch", "cupy-cuda12x", "cupy-cuda13x"),
)
LEGEND = (
    "as expected: inside the expectation, whose source is the number in brackets below",
    "NOT as expected: outside of it; either the hardware differs from its description or the meter is wrong",
    "not available: could not be measured here, with the reason; it is unknown, not 0",
    "noted: nothing is expected of it",
)


@dataclass
class Report:
    """What is written: after each group, so that a check that is cut off leaves what it had."""

    plan: Plan
    simulated: bool
    gpu: str = ""
    driver: str = ""
    load: str = ""
    missing: list[tuple[str, str]] = field(default_factory=list)
    book: Book = field(default_factory=Book)
    state: str = "running"
    started_s: float = field(default_factory=time.time)

    def document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "simulated": self.simulated,
            "state": self.state,
            "started_at": datetime.fromtimestamp(self.started_s, timezone.utc).isoformat(timespec="seconds"),
            "duration_s": round(time.time() - self.started_s, 1),
            "plan": asdict(self.plan),
            "machine": {"gpu": self.gpu, "driver": self.driver, "load": self.load, **machine()},
            "versions": {"carbonmon": __version__, "Python": platform.python_version(), **versions()},
            "missing": [{"part": part, "consequence": consequence} for part, consequence in self.missing],
            "counts": {verdict: self.book.count(verdict) for verdict in VERDICTS},
            "figures": [asdict(figure) for figure in self.book.figures],
        }

    def page(self) -> str:
        """Every line begins with "simulated" where no hardware was measured."""
        lines = list(_page(self.document(), self.book.figures))
        before = "simulated | " if self.simulated else ""
        return "".join(f"{before}{line}".rstrip() + "\n" for line in lines)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """gpu-check.json and gpu-check.txt, each replaced as a whole."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.document(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        paths = folder / "gpu-check.json", folder / "gpu-check.txt"
        for path, content in zip(paths, (text, self.page()), strict=True):
            fresh = path.with_suffix(".new")
            fresh.write_text(content, encoding="utf-8")
            fresh.replace(path)
        return paths


def _page(document: dict[str, Any], figures: list[Figure]) -> list[str]:
    sources = list(dict.fromkeys(figure.source for figure in figures if figure.source))
    machine_, counts = document["machine"], document["counts"]
    lines = [
        f"carbonmon {document['versions']['carbonmon']}, gpu-check of {document['started_at']}, "
        f"{document['duration_s']:.0f} s, {document['state']}",
        f"{machine_['gpu'] or 'no GPU'}, driver {machine_['driver'] or 'unknown'}, {machine_['cpu']}, "
        f"{machine_['kernel']}, Python {document['versions']['Python']}; "
        f"load by {machine_['load'] or 'nothing'}",
        "versions: " + ", ".join(f"{name} {text}" for name, text in versions().items()),
        f"{len(figures)} figures: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()),
        *(f"not there: {entry['part']}: {entry['consequence']}" for entry in document["missing"]),
        *(f"NOT as expected: {figure.group}: {figure.name}" for figure in _outside(figures)),
    ]
    for group, members in groupby(figures, key=lambda figure: figure.group):
        lines += ["", group]
        for figure in members:
            lines += _rows(figure, sources)
    lines += ["", "where the expectations are from"]
    lines += [f"  [{place}] {source}" for place, source in enumerate(sources, 1)]
    return [*lines, "", *LEGEND]


def _outside(figures: list[Figure]) -> list[Figure]:
    return [figure for figure in figures if figure.verdict == NOT_AS_EXPECTED]


def _rows(figure: Figure, sources: list[str]) -> list[str]:
    """One line, and a second for what does not speak for itself."""
    value = "–" if figure.value is None else figure.value
    text = value if isinstance(value, str) else number(value)
    measured = f"{text} {figure.unit}" if figure.unit and figure.value is not None else text
    source = f" [{sources.index(figure.source) + 1}]" if figure.source else ""
    line = f"  {figure.name:<62} {measured:<34} {figure.expected:<28} {figure.verdict}{source}"
    needs_note = figure.verdict in (NOT_AS_EXPECTED, NOT_AVAILABLE)
    return [line, f"      {figure.note}"] if needs_note and figure.note else [line]


def versions() -> dict[str, str]:
    """Of the packages that are there."""
    found = {name: version_of(name) for name in PACKAGES}
    return {name: text for name, text in found.items() if text is not None}


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, str]:
    """CPU, kernel and whether a hypervisor is below."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    virtual = ", a virtual machine" if "hypervisor" in text else ""
    cpu = f"{model[1].strip() if model else platform.machine()} ({os.cpu_count()} CPUs{virtual})"
    return {"cpu": cpu, "kernel": f"Linux {platform.release()}"}

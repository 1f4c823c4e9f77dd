"""What every command writes in terminals of 80, 60 and 50 columns, and with which colours."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbonmon.cli import _COMMANDS
from carbonmon.core.text_layout import columns_of
from carbonmon.core.times import utc_text
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.file import write_summary
from tests.simulator import Gpu, Package, Simulator
from tests.support import command, records
from tests.support.daemon import daemon
from tests.support.forked import Forked, Started, commands
from tests.support.kept_runs import kept_run
from tests.support.rows import for_each_row
from tests.support.run_folders import a_run
from tests.support.terminal_output import COLOUR, in_terminal, too_wide

pytestmark = pytest.mark.timeout(300)  # each row is a process, and there are many

WIDTHS = (80, 60, 50)
START_S = 1_795_000_000.0
LONG = "fine-tuning-with-a-very-long-name-that-nobody-would-type-twice"

WRITES = {
    "run": ("run", "--sensor", "nvml,tdp", "--region", "FR", "--budget", "1kWh", "--", "sleep", "0.2"),
    "run, inside a run": (
        "run",
        "--region",
        "FR",
        "--",
        command.CARBONMON,
        "run",
        "--pue",
        "1.3",
        "--",
        "true",
    ),
    "run, a mistake": ("run", "--gpus", "9", "--", "true"),
    "daemon": ("daemon", "--socket", "s"),
    "daemon, a mistake": ("daemon", "--grid", "nowhere"),
    "run, the greenest start": (
        *("run", "--start", "greenest", "--for", "1", "--within", "12", "--intensity-file", "coming.csv"),
        *("--", "true"),
    ),
    "run, with pauses": ("run", "--pause-above", "1000", "--region", "FR", "--", "true"),
    "run, charged by the node": ("run", "--charge", "node", "--region", "FR", "--", "true"),
    "run, an option of another program": ("run", "--country", "FR", "--", "true"),
    "daemon, none to ask": ("daemon", "--status", "--socket", "nobody"),
    "daemon, none to end": ("daemon", "--stop", "--socket", "nobody"),
    "top, no monitor": ("top", "--url", "http://127.0.0.1:9"),
    "top, no address": ("top", "--url", "nowhere at all"),
    "phase": ("phase", "training"),
    "register": ("register", "--run-id", "a", "--pid", "1", "--socket", "nobody"),
    "unregister": ("unregister", "a", "--socket", "nobody"),
    "pods": ("pods",),
    "report": ("report", "node"),
    "report, wide characters": ("report", "wide"),
    "report, elsewhere": ("report", "one", "--elsewhere", "--embodied"),
    "report, places": ("report", "one", "--elsewhere", "SE,aws:us-east-1,gcp"),
    "report, what if": ("report", "one", "--region", "SE"),
    "report, a plot": ("report", "kept", "--plot"),
    "report, a mistake": ("report", "one", "--format", "pdf"),
    "report, several": ("report", "one", "two", "--merge"),
    "report, none": ("report", "nothing"),
    "runs": ("runs", "--sum"),
    "runs, groups": ("runs", "--by", "name,host"),
    "runs prune": ("runs", "prune", "--older-than", "1d"),
    "compare": ("compare", "one", "two"),
    "compare, phases": ("compare", "node", "node"),
    "settle": ("settle", "one", "--intensity-file", "past.csv"),
    "settle, another region": ("settle", "two", "--region", "SE"),
    "settle, a hole": ("settle", "one", "--intensity-file", "coming.csv"),
    "estimate": ("estimate", "--gpu", "A100 SXM4 80GB:8", "--hours", "100", "--pue", "1.2", "--embodied"),
    "estimate, of a paper": (
        "estimate",
        "--gpu-hours",
        "184320",
        "--gpu",
        "A100 SXM4 80GB",
        "--region",
        "SE",
    ),
    "when": ("when", "--for", "1", "--within", "12", "--intensity-file", "coming.csv"),
    "regions": ("regions",),
    "regions, one": ("regions", "france"),
    "regions, a list": ("regions", "aws"),
    "regions, none": ("regions", "atlantis"),
    "data": ("data",),
    "data check": ("data", "check"),
    "doctor": ("doctor",),
    "a word that is no command": ("rum",),
}
"""What is written by each command: outputs for people. A new command belongs here."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Simulator]:
    with Simulator(gpus=[Gpu()] * 8, packages=[Package()] * 2) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("f")
    output = place / "carbonmon-runs"
    for name, kwh in (("one", 1.0), ("two", 1.5)):
        a_run(output, name, name=LONG, start_s=START_S, kwh=kwh, drawn=[(START_S + 3600.0, kwh * 3.6e6)])
    a_run(output, "wide", name="大規模言語モデルの事前学習と評価", host="計算ノード" * 4, start_s=START_S)
    kept_run(output / "kept", 0.2, (8, 2, 2), name=LONG)
    shown = records.node(8, 2, 2)
    (run,) = shown.runs
    rows = (*run.totals, *(total._replace(phase=LONG) for total in run.totals))
    run = run._replace(totals=rows, phases_s=(("main", 100.0), (LONG, 3500.0)))
    (output / "node").mkdir()
    write_summary(output / "node", summarize(shown._replace(runs=(run,)), run, "final"))
    for name, begin_s in (("past.csv", START_S - 3600.0), ("coming.csv", time.time() - 3600.0)):
        lines = [f"{utc_text(begin_s + 3600.0 * hour)},{300 + 20 * hour}\n" for hour in range(24)]
        (place / name).write_text("timestamp,gco2_per_kwh\n" + "".join(lines))
    return place


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked | Started]:
    with commands() as each:
        yield each


def written(
    folder: Path,
    machine: Simulator,
    what: str,
    columns: int,
    forked: Forked | Started | None = None,
    **more: str,
) -> str:
    env = {**machine.environ, "CARBONMON_SYSFS": str(machine.sysfs), **more}
    stop_at = "daemon:" if what == "daemon" else ""
    return in_terminal(WRITES[what], folder, columns, env=env, stop_at=stop_at, commands=forked)


@for_each_row(("columns", "what"), [(columns, what) for columns in WIDTHS for what in WRITES])
def test_no_line_of_any_command_is_wider_than_the_terminal(
    folder: Path, machine: Simulator, forked: Forked | Started, columns: int, what: str
) -> None:
    text = written(folder, machine, what, columns, forked)
    assert len(text.splitlines()) >= 1, "it writes something"
    assert "Traceback" not in text
    assert too_wide(text, columns) == []


def test_no_line_on_a_daemon_and_its_runs_is_wider_than_the_terminal(tmp_path: Path) -> None:
    with Simulator(gpus=[Gpu()], packages=[Package()]) as machine, daemon(machine, tmp_path) as node:
        node.register("a", "--name", LONG, "--pid", str(os.getpid()))
        status = ("daemon", "--status", "--socket", str(node.socket))
        texts = {columns: in_terminal(status, tmp_path, columns) for columns in WIDTHS}
    for columns, text in texts.items():
        assert LONG in text
        assert too_wide(text, columns) == []


def test_every_command_is_among_them() -> None:
    assert {words[0] for words in WRITES.values()} >= _COMMANDS.keys()


@for_each_row(("columns", "name"), [(columns, name) for columns in WIDTHS for name in ("", *_COMMANDS)])
def test_no_line_of_any_help_is_wider_than_the_terminal(
    folder: Path, forked: Forked | Started, columns: int, name: str
) -> None:
    text = in_terminal([*filter(None, [name]), "--help"], folder, columns, commands=forked)
    assert "Usage: " in text
    assert too_wide(text, columns) == []


@for_each_row("name", ["report", "runs", "compare", "doctor", "regions, a list"])
def test_in_a_pipe_nothing_is_cut(folder: Path, machine: Simulator, name: str) -> None:
    env = {**machine.environ, "CARBONMON_SYSFS": str(machine.sysfs), "COLUMNS": "50"}
    text = command.run(WRITES[name], folder, env=env).stdout
    assert ".." not in text.replace("...", ""), "no cell is cut"
    assert "not shown, for the width" not in text
    assert COLOUR.search(text) is None
    if name == "report":
        assert all(records.gpu(index).id in text for index in range(8)), "ids are whole"
    if name == "doctor":
        assert all(gpu.uuid in text for gpu in machine.gpus)
    if name == "runs":
        assert LONG in text


def test_the_width_is_that_of_the_terminal_unless_columns_says_another(
    folder: Path, machine: Simulator
) -> None:
    widest = max(map(columns_of, COLOUR.sub("", written(folder, machine, "report", 120)).splitlines()))
    assert 80 < widest <= 120
    told = written(folder, machine, "report", 120, COLUMNS="60")
    assert too_wide(told, 60) == []


@for_each_row(
    ("variables", "has_colours"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ({"CLICOLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours_are_in_a_terminal_unless_somebody_wants_none(
    folder: Path, machine: Simulator, variables: dict[str, str], has_colours: bool
) -> None:
    text = written(folder, machine, "compare", 80, **variables)
    assert (COLOUR.search(text) is not None) is has_colours
    assert COLOUR.sub("", text) == COLOUR.sub("", written(folder, machine, "compare", 80))


def test_colours_may_be_forced_into_a_pipe_and_documents_for_programs_have_none(folder: Path) -> None:
    forced = {"FORCE_COLOR": "1"}
    assert COLOUR.search(command.run(["compare", "one", "two"], folder, env=forced).stdout)
    for form in ("json", "markdown", "csv"):
        words = ["report", "one", "--format", form]
        plain = command.run(words, folder).stdout
        assert command.run(words, folder, env=forced).stdout == plain
        assert in_terminal(words, folder, 50).rstrip("\n") == plain.rstrip("\n"), "nor is it wrapped"

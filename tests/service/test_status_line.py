"""The figures of a run in a terminal's title: what they say, and that nothing else there is touched."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from carbonmon.service.status_line import LONGEST, Status, StatusLine, of_snapshot, of_totals, text_of
from tests.support import page_states
from tests.support.command import wait_for
from tests.support.records import run_state, snapshot
from tests.support.rows import for_each_row

STATUS = Status(512.0, 4.5e6, 1.0, 451.0, 723.0)
TITLE = re.compile(rb"\x1b\]2;([^\x1b]*)\x1b\\")


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal: that of who looks at it, and that of programs."""
    ends = pty.openpty()
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


def written(viewer: int) -> bytes:
    try:
        return os.read(viewer, 1 << 16)
    except BlockingIOError:
        return b""


@for_each_row(
    ("status", "text"),
    [
        (STATUS, "512 W, 1.25 kWh, 451 g CO2e, 12 min 03 s"),
        (STATUS._replace(measured_ratio=0.99), "~512 W, ~1.25 kWh, 451 g CO2e, 12 min 03 s"),
        (
            STATUS._replace(measured_ratio=None, energy_j=None, power_w=None),
            "power unknown, 451 g CO2e, 12 min",
        ),
        (STATUS._replace(unknown_devices=2), "512 W + 2 unknown, 1.25 kWh"),
        (STATUS._replace(end_s=1e9), ", end 2001-09-0"),
        (STATUS._replace(budgets=[("2kWh", 0.25)]), ", 2kWh 25.0 %"),
        (STATUS._replace(budgets=[("\x1b]0;x\x07", 0.25)]), "\\x1b]0;x\\x07 25.0 %"),
    ],
)
def test_the_line_says_what_is_known(status: Status, text: str) -> None:
    found = text_of(status)
    assert text in found
    assert found.isprintable()
    assert len(text_of(status._replace(budgets=[("x" * 99, 0.1)] * 9))) == LONGEST


def test_the_figures_are_those_of_the_run() -> None:
    shown = page_states.hours_in(2, 1, 1)
    found = of_snapshot(shown, "slurm-4242")
    assert found is not None
    assert found.power_w == 761.5
    assert found.energy_j == pytest.approx(sum(total.energy_j for total in shown.runs[0].totals))
    assert 0.0 < (found.measured_ratio or 0.0) < 1.0
    assert found.end_s == shown.at_s - 3600.0 + 100.0
    assert found.budgets == [("2kWh", 0.25)]
    assert of_snapshot(shown, "other") is None
    assert of_snapshot(snapshot((run_state(),)), "slurm-4242") is None, "nothing is known before a sample"


def test_what_another_monitor_tells_becomes_the_same() -> None:
    told = {
        "power_w": 5.0, "energy_j": 7.0, "measured_ratio": 1.0, "emissions_g": 2.0, "duration_s": 30.0,
        "forecast": {"duration_s": {"low": 50.0, "expected": 60.0, "high": 70.0}},
    }  # fmt: skip
    assert of_totals(told, 1000.0) == Status(5.0, 7.0, 1.0, 2.0, 30.0, 1030.0)
    assert of_totals({}, 1000.0) is None
    assert of_totals({"duration_s": 1.0, "forecast": {}, "power_w": None}, 1.0) == Status(
        None, None, None, None, 1.0
    )


def test_only_the_title_is_written_and_it_is_brought_back(terminal: tuple[int, int]) -> None:
    viewer, program = terminal
    watts = iter([1.0, 1.0, 2.0, *[3.0] * 1000])
    line = StatusLine(lambda: STATUS._replace(power_w=next(watts)), {"TERM": "xterm-256color"}, program, 0.01)
    line.start()
    found = b""

    def has_all() -> bool:
        nonlocal found
        found += written(viewer)
        return b"3.00 W" in found

    wait_for(has_all, "the third title")
    line.close()
    found += written(viewer)
    assert [title.partition(b",")[0] for title in TITLE.findall(found)] == [b"1.00 W", b"2.00 W", b"3.00 W"]
    assert TITLE.sub(b"", found) == b"\x1b[22;2t\x1b[23;2t", "kept before, brought back behind, nothing else"


@for_each_row("name", ["dumb", "linux", "vt100", "", "unknown", "emacs", "xtermish"])
def test_a_terminal_without_a_title_is_left_alone(name: str) -> None:
    viewer, program = pty.openpty()
    os.set_blocking(viewer, False)
    asked: list[int] = []
    line = StatusLine(lambda: asked.append(1), {"TERM": name}, program, 0.001)  # type: ignore[func-returns-value]
    line.start()
    time.sleep(0.02)
    line.close()
    assert asked == []
    assert written(viewer) == b""
    os.close(viewer)
    os.close(program)


def test_without_a_terminal_there_is_none() -> None:
    reader, writer = os.pipe()
    line = StatusLine(lambda: STATUS, {"TERM": "xterm"}, writer, 0.001)
    line.start()
    line.close()
    os.set_blocking(reader, False)
    assert written(reader) == b""
    os.close(reader)
    os.close(writer)


def test_a_failure_of_the_line_harms_nothing(terminal: tuple[int, int]) -> None:
    def broken() -> Status:
        raise RuntimeError("a fault of ours")

    line = StatusLine(broken, {"TERM": "xterm"}, terminal[1], 0.001)
    line.start()
    line.close()
    assert written(terminal[0]) == b""


def test_nobody_loads_it_or_the_terminal_view_unasked() -> None:
    code = (
        "import sys; from carbonmon.cli import daemon, run; from carbonmon.service import joined_job; "
        "print([name for name in sys.modules if 'status_line' in name or name.startswith('carbonmon.top')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

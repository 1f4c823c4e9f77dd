"""The figures of a run are floats whatever happens to its monitor; one that hangs costs one time-out."""

from __future__ import annotations

import math
import time

import pytest

import carbonmon
from carbonmon.client import connection
from carbonmon.client import part as handle
from carbonmon.service.socket.server import ControlServer
from tests.support.fake_monitor import Fake, until, warned
from tests.support.rows import for_each_row

pytestmark = pytest.mark.usefixtures("clean")

FIGURES = ("energy_j", "emissions_g", "power_w", "duration_s")


def figures(run: carbonmon.Run) -> list[float]:
    return [getattr(run, name) for name in FIGURES]


def test_figures_are_the_monitor_s_and_nan_where_it_does_not_know(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        assert run.energy_j == 12.5
        assert math.isnan(run.power_w)
        assert run.summary is None
        totals = {"energy_j": 20.0, "emissions_g": 2.0, "power_w": None, "duration_s": 4.0}
        fake.last_words = {"totals": totals}
    assert (run.energy_j, run.emissions_g, run.duration_s) == (20.0, 2.0, 4.0)
    assert run.summary is not None
    assert run.summary["state"] == "final"
    assert run.summary["energy_j"] == 20.0
    assert math.isnan(run.summary["power_w"])
    assert run.snapshot()["energy_j"] == 20.0


def test_four_figures_read_at_once_are_one_question(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        figures(run)
    assert len(fake.of("snapshot")) == 1


@pytest.mark.parametrize("off", [False, True])
def test_without_a_monitor_each_figure_is_nan_and_the_summary_says_so(
    off: bool, monkeypatch: pytest.MonkeyPatch
):
    if off:
        monkeypatch.setenv("CARBONMON_OFF", "1")
    with carbonmon.track() as run:
        with run.phase("train") as phase:
            assert all(math.isnan(value) for value in figures(run))
    assert all(math.isnan(value) for value in (*figures(run), phase.energy_j, phase.energy_low_j))
    assert phase.is_interpolated
    assert not phase.is_settled
    assert run.summary is not None
    assert run.summary["state"] == "unknown"
    assert all(math.isnan(run.summary[name]) for name in FIGURES)


def test_a_killed_monitor_leaves_the_last_figures(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        assert run.energy_j == 12.5
        server.close()
        for _ in range(3):
            assert run.snapshot()["energy_j"] == 12.5
    assert run.energy_j == 12.5
    assert run.summary is not None
    assert (run.summary["state"], run.summary["energy_j"]) == ("unknown", 12.5)


def test_a_monitor_that_hangs_costs_one_time_out_for_all_that_comes(
    server: ControlServer, fake: Fake, monkeypatch: pytest.MonkeyPatch
):
    waits: list[float] = []
    poll = connection.MonitorConnection._poll

    def counted(self: connection.MonitorConnection, events: int, deadline_s: float) -> None:
        waits.append(deadline_s - time.monotonic())
        poll(self, events, deadline_s)

    monkeypatch.setattr(handle, "SNAPSHOT_S", 0.05)
    monkeypatch.setattr(handle, "FRESH_S", 0.0)
    with carbonmon.track() as run:
        assert run.energy_j == 12.5
        fake.silent = True
        assert run.energy_j == 12.5
        monkeypatch.setattr(connection.MonitorConnection, "_poll", counted)
        for _ in range(100):
            with run.phase("train") as phase:
                assert run.energy_j == 12.5
            assert math.isnan(phase.energy_j)
        asked = len(fake.of("snapshot"))
    assert not waits
    assert asked == 2
    until(lambda: fake.of("leave"), "the goodbye, which is said all the same")


def test_a_monitor_that_wakes_up_is_asked_again(
    server: ControlServer, fake: Fake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(handle, "SNAPSHOT_S", 0.05)
    monkeypatch.setattr(handle, "FRESH_S", 0.0)
    with carbonmon.track() as run:
        fake.silent = True
        assert math.isnan(run.energy_j)
        fake.silent = False
        assert math.isnan(run.energy_j), "not asked before it is time"
        monkeypatch.setattr(connection, "RETRY_S", 0.0)
        until(lambda: run.energy_j == 12.5, "the answer")
        monkeypatch.setattr(connection, "RETRY_S", 1000.0)
        fake.energy_j = 13.5
        assert run.energy_j == 13.5


def test_every_message_bears_the_word_carbonmon(
    server: ControlServer, fake: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(handle, "SNAPSHOT_S", 0.05)
    with carbonmon.track() as run:
        run.progress(math.nan)
        fake.silent = True
        run.snapshot()
        server.close()
        run.snapshot()
    connection._warned.clear()
    monkeypatch.delenv("CARBONMON_SOCKET")
    with carbonmon.track():
        pass
    assert len(warned(caplog)) >= 4
    assert all("carbonmon" in text for text in warned(caplog))


@for_each_row(
    ("name", "value", "off"),
    [
        *(
            (name, value, True)
            for name in ("CARBONMON_OFF", "CARBONMON_DISABLE")
            for value in ("1", "yes", "on")
        ),
        *(("CARBONMON_OFF", value, False) for value in ("", "0", "false", "No", " 0 ")),
        ("CARBONMON_DISABLE", "0", False),
    ],
)
def test_the_switch_turns_carbonmon_off(server: ControlServer, fake: Fake, name: str, value: str, off: bool):
    fake.heard.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        with carbonmon.track() as run:
            run.progress(1)
    assert (fake.heard == []) is off

"""Phases of training code tell what they drew while the run goes on."""

from __future__ import annotations

import gc
import math

import pytest

import carbonmon
from carbonmon.client import phase as live
from carbonmon.service.socket.server import ControlServer
from tests.support.fake_monitor import Fake, until

pytestmark = pytest.mark.usefixtures("clean")


def found(energy_j: float, is_settled: bool = True) -> dict[str, object]:
    more = {"is_interpolated": not is_settled, "is_settled": is_settled, "duration_s": 2.0}
    return {"energy_j": energy_j, "low_j": energy_j - 1.0, "high_j": energy_j + 1.0, **more}


@pytest.fixture(autouse=True)
def asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ASKED_AGAIN_S", 0.0)


def test_a_phase_is_asked_for_until_it_is_settled(server: ControlServer, fake: Fake):
    fake.windows = {1: found(10.0, is_settled=False)}
    with carbonmon.track() as run:
        with run.phase("train") as phase:
            pass
        assert (phase.energy_j, phase.is_settled, phase.is_interpolated) == (10.0, False, True)
        fake.windows = {1: found(12.0)}
        assert (phase.energy_j, phase.energy_low_j, phase.energy_high_j) == (12.0, 11.0, 13.0)
        assert (phase.duration_s, phase.is_settled, phase.is_interpolated) == (2.0, True, False)
        asked = len(fake.of("window"))
        assert phase.energy_j == 12.0
    assert len(fake.of("window")) == asked
    assert phase.energy_j == 12.0
    assert [(told.get("begin"), told.get("end")) for told in fake.of("phase")] == [(1, None), (None, 1)]


def test_figures_of_the_last_phase_come_with_the_goodbye(server: ControlServer, fake: Fake):
    fake.last_words = {"windows": {"1": found(12.0), "7": None}}
    with carbonmon.track() as run:
        with run.phase("train") as phase:
            pass
        assert math.isnan(phase.energy_j)
    assert (phase.energy_j, phase.is_settled) == (12.0, True)


def test_nested_phases_of_one_name_have_windows_of_their_own(server: ControlServer, fake: Fake):
    fake.windows = {1: found(10.0), 2: found(4.0)}
    with carbonmon.track() as run:
        with run.phase("train") as outer, run.phase("train") as inner:
            pass
        assert (outer.energy_j, inner.energy_j) == (10.0, 4.0)


def test_a_phase_that_is_entered_again_tells_of_its_last_time(server: ControlServer, fake: Fake):
    fake.windows = {1: found(10.0), 2: found(4.0), 3: found(6.0)}
    with carbonmon.track() as run:
        phase = run.phase("train")
        with phase:
            pass
        assert phase.energy_j == 10.0
        with phase:
            with phase:
                pass
            assert phase.energy_j == 6.0
        assert phase.energy_j == 4.0


def test_what_nobody_can_ask_for_is_forgotten(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        for _ in range(3):
            with run.phase("step"):
                pass
        gc.collect()
        with run.phase("last"):
            pass
        until(lambda: len(fake.of("phase")) == 8, "the phases")
    forgotten = [number for told in fake.of("phase") for number in told.get("forget", [])]
    assert forgotten == [1, 2, 3]


def test_a_lost_monitor_leaves_what_was_known(server: ControlServer, fake: Fake):
    fake.windows = {1: found(10.0, is_settled=False)}
    with carbonmon.track() as run:
        with run.phase("train") as phase:
            pass
        assert phase.energy_j == 10.0
        server.close()
        assert phase.energy_j == 10.0
        with run.phase("lost") as lost:
            pass
        assert math.isnan(lost.energy_j)
    assert (phase.energy_j, phase.is_settled) == (10.0, False)

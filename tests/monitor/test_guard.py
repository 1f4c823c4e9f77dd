"""What the guards make of an adapter's words and faults: data, and one line of log for each change."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.errors import ConfigError, SensorGone, SensorReadError
from carbonmon.core.model import Device, Failure, Reading, SensorState, Snapshot
from carbonmon.core.ports import Clock
from carbonmon.monitor.guard import Guard, GuardedExporter, GuardedSensor
from tests.support.harness import FakeClock
from tests.support.records import snapshot

Said = Sequence[Reading | Failure | Exception]


class Saying:
    """A sensor that says, at each read, the next of what the test wrote down; each word takes 0.1 s."""

    def __init__(self, reads: Sequence[Said], clock: FakeClock, name: str = "said") -> None:
        self.name = name
        self._reads = iter(reads)
        self._clock = clock
        self.asked: list[tuple[float, bool]] = []

    def devices(self) -> Sequence[Device]:
        return [Device("a", "gpu", "a"), Device("b", "gpu", "b")]

    def sources(self) -> Sequence[SensorState]:
        return [SensorState(f"{self.name} note", "not used", "aside"), SensorState(self.name, "used", "why")]

    def read(self, now_s: float, edge: bool = False) -> Iterator[Reading | Failure]:
        self.asked.append((now_s, edge))
        for word in next(self._reads):
            self._clock.time_s += 0.1
            if isinstance(word, Exception):
                raise word
            yield word

    def close(self) -> None:
        raise RuntimeError("cannot be closed")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100.0)


def heard(guarded: GuardedSensor, clock: Clock, edge: bool = False) -> dict[str, tuple[Any, float]]:
    into: dict[str, tuple[Reading | Failure, float]] = {}
    guarded.read(clock, edge, into)
    return into


def log_of(reads: Sequence[Said], caplog: pytest.LogCaptureFixture) -> list[list[str]]:
    """The lines that each of these reads logs."""
    clock = FakeClock()
    guarded = GuardedSensor(Saying(reads, clock))
    lines = []
    for _ in reads:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            heard(guarded, clock)
        lines.append([record.getMessage() for record in caplog.records])
    return lines


A, B = Reading("a", 1), Reading("b", 2)
A_LOST, B_LOST = Failure("a", "lost", "a is lost"), Failure("b", "lost", "b is lost")


# ---- stamps and state ----


def test_each_reading_is_stamped_when_it_was_made(clock: FakeClock):
    sensor = Saying([[A, B]], clock)
    said = heard(GuardedSensor(sensor), clock, edge=True)
    assert {key: round(at_s, 6) for key, (_, at_s) in said.items()} == {"a": 100.1, "b": 100.2}
    assert sensor.asked == [(100.0, True)]


def test_its_state_says_why_it_is_used_how_long_a_read_takes_and_what_failed(clock: FakeClock):
    guarded = GuardedSensor(Saying([[A, B_LOST], [A_LOST, B_LOST], [SensorReadError("x")]], clock))
    assert guarded.state() == SensorState("said", "used", "why", "", True, None, ())
    heard(guarded, clock)
    assert (guarded.state().up, guarded.state().errors) == (True, (("lost", 1),))
    assert guarded.state().read_s == pytest.approx(0.2)
    heard(guarded, clock)
    assert (guarded.state().up, guarded.state().errors) == (False, (("lost", 3),))
    heard(guarded, clock)
    assert (guarded.state().up, guarded.state().errors) == (False, (("lost", 3), ("read", 1)))


def test_what_was_said_before_a_fault_is_kept(clock: FakeClock):
    guarded = GuardedSensor(Saying([[A, ZeroDivisionError("a bug")]], clock))
    assert heard(guarded, clock).keys() == {"a"}
    assert guarded.state().errors == (("bug", 1),)


def test_a_sensor_that_is_gone_is_asked_no_more(clock: FakeClock):
    sensor = Saying([[A], [SensorGone("over")], [A]], clock)
    guarded = GuardedSensor(sensor)
    assert [bool(heard(guarded, clock)) for _ in range(4)] == [True, False, False, False]
    assert len(sensor.asked) == 2
    assert (guarded.state().up, guarded.state().errors) == (False, ())


def test_a_sensor_that_cannot_be_closed_is_no_fault(clock: FakeClock):
    GuardedSensor(Saying([], clock)).close()


# ---- two words on one device ----


def test_the_first_word_wins_and_the_second_fills_what_it_left_open(clock: FakeClock):
    into: dict[str, tuple[Reading | Failure, float]] = {}
    first, second = Reading("a", 7, None, None, 0.5), Reading("a", 8, 90.0, ((0.0, 1.0), (1.0, 1.0)), 0.9)
    GuardedSensor(Saying([[first]], clock)).read(clock, False, into)
    GuardedSensor(Saying([[second]], clock)).read(clock, False, into)
    reading, at_s = into["a"]
    assert reading == Reading("a", 7, 90.0, ((0.0, 1.0), (1.0, 1.0)), 0.5)
    assert at_s == pytest.approx(100.1), "the better sensor's stamp"


WORD = st.builds(
    Reading,
    st.just("a"),
    st.none() | st.integers(0, 9),
    st.none() | st.floats(0, 9),
    st.none(),
    st.none() | st.floats(0, 1),
) | st.builds(Failure, st.just("a"), st.sampled_from(["lost", "io"]))


@given(st.lists(WORD, min_size=1, max_size=4))
def test_however_many_speak_of_a_device_nothing_that_one_knows_is_lost(words: list[Reading | Failure]):
    clock = FakeClock()
    into: dict[str, tuple[Reading | Failure, float]] = {}
    for word in words:
        GuardedSensor(Saying([[word]], clock)).read(clock, False, into)
    said, _ = into["a"]
    readings = [word for word in words if isinstance(word, Reading)]
    if not readings:
        assert said == words[0]
        return
    assert isinstance(said, Reading)
    for field in ("energy_uj", "power_w", "utilization_ratio"):
        known = [value for reading in readings if (value := getattr(reading, field)) is not None]
        assert getattr(said, field) == (known[0] if known else None)


# ---- log ----


def test_a_device_that_fails_is_logged_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture):
    reads = [[A, B], [A, B_LOST], [A, B_LOST], [A, B], [A, B]]
    assert log_of(reads, caplog) == [[], ["said: b: b is lost"], [], ["said: b is read again"], []]


def test_a_device_that_fails_in_two_ways_at_once_is_logged_once_for_each(caplog: pytest.LogCaptureFixture):
    both = [A, Failure("a", "power", "no power"), Failure("a", "utilisation", "no utilisation"), B]
    expected = [["said: a: no power", "said: a: no utilisation"], [], [], ["said: a is read again"]]
    assert log_of([both, both, both, [A, B]], caplog) == expected


def test_another_reason_is_another_state(caplog: pytest.LogCaptureFixture):
    denied = Failure("a", "permission")
    reads = [[A_LOST, B], [denied, B], [denied, B]]
    assert log_of(reads, caplog) == [["said: a: a is lost"], ["said: a: permission"], []]


def test_a_sensor_that_fails_as_a_whole_is_logged_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
):
    broken = [SensorReadError("no bus")]
    assert log_of([[A, B], broken, broken, [A, B]], caplog) == [
        [],
        ["sensor said cannot be read: no bus"],
        [],
        ["sensor said reads again"],
    ]


def test_a_device_that_was_not_read_is_not_said_to_be_read_again(caplog: pytest.LogCaptureFixture):
    broken = [A, SensorReadError("no bus")]
    assert log_of([[A, B_LOST], broken, [A, B_LOST], [A, B]], caplog) == [
        ["said: b: b is lost"],
        ["sensor said cannot be read: no bus"],
        ["sensor said reads again"],
        ["said: b is read again"],
    ]


def test_a_bug_is_logged_once_by_its_name(caplog: pytest.LogCaptureFixture):
    bug = [KeyError("x")]
    assert log_of([bug, bug], caplog) == [["sensor said cannot be read: KeyError: 'x'"], []]


# ---- exporters ----


class Exporting:
    name = "export"

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def start(self, latest: object) -> str:
        return self._act("here")

    def finish(self, final: Snapshot) -> None:
        self._act("")

    def close(self) -> None:
        self._act("")

    def _act(self, result: str) -> str:
        if self._error is not None:
            raise self._error
        return result


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ConfigError("no"), KeyError("bug")]
)
def test_whatever_an_exporter_raises_is_counted_and_logged_and_goes_no_further(
    error: Exception, caplog: pytest.LogCaptureFixture
):
    guarded = GuardedExporter(Exporting(error))
    assert guarded.start(snapshot) == ""
    assert guarded.finish(snapshot()) is False
    guarded.close()
    assert guarded.errors == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"], "once per change of state"


def test_a_mistake_of_the_user_goes_on_where_it_is_to_be_refused(caplog: pytest.LogCaptureFixture):
    mistake = ConfigError("--listen: no")
    guarded = GuardedExporter(Exporting(mistake))
    with pytest.raises(ConfigError, match="--listen: no"):
        guarded.start(snapshot, refuses_mistakes=True)
    assert not guarded.is_started
    assert caplog.records == [], "it is said once, by the command"
    other = GuardedExporter(Exporting(OSError("no memory")))
    assert other.start(snapshot, refuses_mistakes=True) == ""


def test_a_guard_says_when_failure_ends_and_when_its_reason_changes(caplog: pytest.LogCaptureFixture):
    guard = Guard("disk")
    outcomes = [OSError("full"), OSError("full"), OSError("read-only"), None, None, OSError("full")]

    def call() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    assert [guard.attempt("cannot write", call) for _ in range(6)] == [False, False, False, True, True, False]
    assert guard.errors == 4
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "disk cannot write: full",
        "disk cannot write: read-only",
        "disk works again",
        "disk cannot write: full",
    ]


def test_a_healthy_exporter_says_where_and_has_no_errors():
    guarded = GuardedExporter(Exporting())
    assert guarded.start(snapshot) == "here"
    assert guarded.finish(snapshot()) is True
    guarded.close()
    assert guarded.errors == 0

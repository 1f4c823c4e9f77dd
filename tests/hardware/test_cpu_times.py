"""The machine's CPU times: one reading for all who ask at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from carbonmon.hardware.cpu_times import SAME_TIME_S, close_cpu_times, read_cpu_times
from carbonmon.hardware.sensors.tdp import TdpSensor
from carbonmon.hardware.workload.node_cpu import NodeCpu

LINE = "cpu  {user} 0 0 {idle} 0 0 0 0 0 0\n"


@pytest.fixture
def procfs(tmp_path: Path) -> Iterator[Path]:
    show(tmp_path, 10)
    yield tmp_path
    close_cpu_times(tmp_path)


def show(procfs: Path, user: int, idle: int = 100) -> None:
    (procfs / "stat").write_text(LINE.format(user=user, idle=idle))


def test_who_asks_at_the_same_time_has_the_same_answer_and_later_another_one(procfs: Path):
    assert read_cpu_times(procfs, 5.0).user == 10
    show(procfs, 20)
    assert read_cpu_times(procfs, 5.0 + 0.9 * SAME_TIME_S).user == 10
    assert read_cpu_times(procfs, 5.0 + 1.1 * SAME_TIME_S).user == 20
    show(procfs, 30)
    assert read_cpu_times(procfs, 1.0).user == 30, "another clock"


def test_a_machine_is_not_taken_for_another_one(procfs: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("other")
    show(other, 77)
    assert (read_cpu_times(procfs, 5.0).user, read_cpu_times(other, 5.0).user) == (10, 77)
    close_cpu_times(other)


def test_what_could_not_be_read_is_read_again_by_the_next_one_who_asks(procfs: Path):
    read_cpu_times(procfs, 1.0)
    (procfs / "stat").write_text("cpu  many\n")
    with pytest.raises(ValueError, match="many"):
        read_cpu_times(procfs, 2.0)
    show(procfs, 40)
    assert read_cpu_times(procfs, 2.0).user == 40


def test_the_fallback_and_the_shares_of_a_tick_are_of_one_reading(procfs: Path):
    sensor, node = TdpSensor((), (), (), procfs=procfs), NodeCpu(procfs)
    show(procfs, 60, 150)
    assert sensor._cpu_utilization_ratio(3.0) == 0.5
    show(procfs, 1000, 1000)
    busy_s, capacity_s = node.read(3.001)
    assert busy_s is not None
    assert busy_s / capacity_s == 0.5
    sensor.close()
    node.close()
    assert read_cpu_times(procfs, 3.002).user == 1000, "whoever closes it leaves it to be opened again"

"""A monitor that the test plays, for what training code imports."""

from __future__ import annotations

from typing import Any

import pytest

from carbonmon.client import connection
from carbonmon.integrations import meter
from tests.client.conftest import clean, path, server
from tests.support.fake_monitor import Fake

__all__ = ("clean", "path", "server")


class FakeMeter(Fake):
    """A run of 100 W: each answer is a second after the last one, each window lasts a second."""

    def __init__(self) -> None:
        super().__init__()
        self.energy_j = 1000.0
        self.more: dict[str, Any] = {"job_ratio": 1.0}
        self.lost: set[int] = set()
        self.asked_windows: list[int] = []

    def handle(self, peer: Any, message: dict[str, Any], answer: Any) -> None:
        if message["op"] == "snapshot" and not self.silent:
            self.heard.append(message)
            self.energy_j += 100.0
            figures = {"energy_j": self.energy_j, "emissions_g": self.energy_j / 10.0, "measured_ratio": 0.5}
            answer(figures | self.more)
            return
        if message["op"] == "window":
            number = message["window"]
            self.asked_windows.append(number)
            found = {"energy_j": 100.0, "duration_s": 1.0, "is_interpolated": False, "is_settled": True}
            self.windows = {number: None if number in self.lost else found}  # type: ignore[dict-item]
        super().handle(peer, message, answer)

    @property
    def cuts(self) -> list[tuple[int | None, int | None]]:
        """The windows that began and ended, in order: (begin, end)."""
        marks = [(each.get("begin"), each.get("end")) for each in self.of("phase")]
        return [pair for pair in marks if pair != (None, None)]


@pytest.fixture
def fake() -> FakeMeter:
    return FakeMeter()


@pytest.fixture(autouse=True)
def no_training_before() -> None:
    connection._warned.clear()
    meter._ended.clear()

"""ROCm in the test's own process: its library found, and forgotten afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from carbonmon.hardware.amdsmi import library, package
from tests.simulator.rocm import Rocm


class Here:
    """Makes an installation this process's own: `here(Rocm(machine))`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, rocm: Rocm) -> Rocm:
        for name, value in rocm.environ.items():
            self._monkeypatch.setenv(name, value)
        return rocm


def rocm_here(monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[Here]:
    """A fixture's body: no installation but that of `Here` counts, and nothing of it stays."""
    monkeypatch.setattr(package, "ROOT", root)
    for name in ("ROCM_HOME", "ROCM_PATH"):
        monkeypatch.delenv(name, raising=False)
    yield Here(monkeypatch)
    package.forget()
    assert library.acquire_if_used() is None, "somebody has not given it back"

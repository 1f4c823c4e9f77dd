"""A process without any monitor, and one with a monitor that the test plays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbonmon.client import connection, current, join_run, rendezvous
from carbonmon.core.errors import ConfigError
from carbonmon.service.socket.server import ControlServer
from tests.support.fake_monitor import Fake, serving


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No monitor anywhere, none that could be started, and no launcher."""
    for name in list(os.environ):
        if name.startswith(("CARBONMON_", "SLURM_", "PMI", "OMPI_", "TORCHELASTIC_")) or name == "RANK":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.fspath(tmp_path))
    monkeypatch.setattr(rendezvous, "NODE_SOCKET", tmp_path / "node.sock")
    monkeypatch.setattr(join_run, "_start_failed", False)
    monkeypatch.setattr(current, "_handle", None)
    monkeypatch.chdir(tmp_path)

    def start_monitor(*_: object) -> None:
        raise ConfigError("not here")

    monkeypatch.setattr(join_run, "start_monitor", start_monitor)
    connection._warned.clear()
    yield
    assert current._current is None


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.sock"


@pytest.fixture
def server(path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlServer]:
    """A monitor in whose run this process is already."""
    monkeypatch.setenv("CARBONMON_SOCKET", os.fspath(path))
    monkeypatch.setenv("CARBONMON_RUN", "outer")
    with serving(path, fake) as server:
        yield server

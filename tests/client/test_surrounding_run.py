"""A process asks the living monitors whose run it is inside of, and waits for none that hangs."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

from carbonmon.client import rendezvous, surrounding_run
from carbonmon.client.notebook import notebook_name
from carbonmon.client.rendezvous import run_socket
from carbonmon.client.surrounding_run import SEARCH_S, find_surrounding_run
from tests.support.rows import for_each_row


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    environ = {"XDG_RUNTIME_DIR": os.fspath(tmp_path)}
    folder = tmp_path / "carbonmon"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(surrounding_run, "safe_folders", lambda _: [folder])
    monkeypatch.setattr(rendezvous, "NODE_SOCKET", tmp_path / "no daemon")
    monkeypatch.setattr(surrounding_run, "daemon_sockets", lambda _: [tmp_path / "no daemon"])
    return environ


@pytest.fixture
def monitor(home: dict[str, str]) -> Iterator[Callable[[str, bytes | None], Path]]:
    """Makes a monitor for a key that answers each request with these bytes, or never."""
    with ExitStack() as closing:

        def make(key: str, answer: bytes | None) -> Path:
            path = run_socket(key, home)
            listening = closing.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(os.fspath(path))
            listening.listen()

            def serve() -> None:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    if answer is not None:
                        connection.sendall(answer)
                    connection.recv(1)  # until the other end is gone

            threading.Thread(target=serve, daemon=True).start()
            return path

        yield make


def line(**answer: object) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def test_the_monitor_that_has_one_of_our_parents_is_found_among_others(
    home: dict[str, str], monitor: Callable[[str, bytes | None], Path]
):
    monitor("a", line(ok=True, run_id=None))
    monitor("b", b"what is this\n")
    monitor("c", line(ok=False, error="op 'find' is unknown"))  # of an earlier release
    monitor("d", line(ok=True, run_id=7))
    ours = monitor("e", line(ok=True, run_id="outer"))
    assert find_surrounding_run(home) == (ours, "outer")


def test_monitors_that_hang_or_are_gone_are_passed_by_in_time(
    home: dict[str, str], monitor: Callable[[str, bytes | None], Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(surrounding_run, "ANSWER_S", 0.05)
    for number in range(3):
        monitor(f"hung-{number}", None)
    run_socket("stale", home).touch()
    ours = monitor("z", line(ok=True, run_id="outer"))
    begin_s = time.monotonic()
    assert find_surrounding_run(home) == (ours, "outer")
    assert time.monotonic() - begin_s < SEARCH_S


def test_without_monitors_there_is_no_run(home: dict[str, str]):
    assert find_surrounding_run(home) is None


@for_each_row(
    ("variables", "environ", "name"),
    [
        ({}, {"JPY_SESSION_NAME": "/home/me/study.ipynb"}, "study"),
        ({}, {"JPY_SESSION_NAME": "study 2.ipynb"}, "study 2"),
        ({}, {"JPY_SESSION_NAME": "console-1"}, None),
        ({"__vsc_ipynb_file__": "C:\\work\\deep.ipynb"}, {}, "deep"),
        ({"__vsc_ipynb_file__": 3}, {}, None),
        ({}, {}, None),
    ],
)
def test_a_notebook_is_named_by_its_file_where_it_is_known(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, object], environ: dict[str, str], name: str | None
):
    main = ModuleType("__main__")
    vars(main).update(variables)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert notebook_name(environ) is None, "no notebook"
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    assert notebook_name(environ) == name

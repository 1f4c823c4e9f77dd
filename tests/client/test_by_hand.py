"""Runs that no block ends: they are closed by hand, by the next start, or when the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import carbonmon
from carbonmon.client.process_end import ProcessEnd
from carbonmon.service.socket.server import ControlServer
from tests.support.fake_monitor import DEADLINE_S, Fake, until
from tests.support.rows import for_each_row

pytestmark = pytest.mark.usefixtures("clean")

BEGIN = "import sys, threading, carbonmon\nrun = carbonmon.track()"


@for_each_row(
    ("body", "code", "told"),
    [
        (".__enter__()", 0, {"exit_code": 0}),
        (".start()", 0, {"exit_code": 0}),
        (".start()\nraise OSError('mine')", 1, {"exit_code": 1}),
        (".start()\nsys.exit(3)", 3, {"exit_code": 3}),
        (".start()\nsys.exit('no')", 1, {"exit_code": 1}),
        (".start()\nraise KeyboardInterrupt", None, {"signal": 2}),
        (
            ".start()\nt = threading.Thread(target=lambda: sys.exit(3))\nt.start(); t.join()",
            0,
            {"exit_code": 0},
        ),
        (".start()\nrun.stop()\nsys.exit(3)", 3, {"exit_code": 0}),
        ("\nwith run:\n  sys.exit(4)", 4, {"exit_code": 4}),
    ],
)
def test_the_end_of_the_process_closes_a_run_with_its_exit_code(
    server: ControlServer, fake: Fake, body: str, code: int | None, told: dict[str, int]
):
    fake.heard.clear()
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + body], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert code is None or done.returncode == code, done.stderr
    left = fake.of("leave")
    assert len(left) == 1
    assert told.items() <= left[0].items()


def test_the_hooks_of_the_program_are_called_and_given_back(monkeypatch: pytest.MonkeyPatch):
    seen: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda *what: seen.append(what[1]))
    before = sys.excepthook, sys.exit
    end = ProcessEnd()
    end.watch()
    error = OSError("mine")
    sys.excepthook(OSError, error, None)
    assert seen == [error]
    assert end.outcome() == {"exit_code": 1}
    with pytest.raises(SystemExit, match="3"):
        sys.exit(3)
    assert end.outcome() == {"exit_code": 3}
    end.unwatch()
    assert (sys.excepthook, sys.exit) == before


def test_a_start_again_ends_what_was_started_before(server: ControlServer, fake: Fake):
    first = carbonmon.track("cell").start()
    second = carbonmon.track("cell").start()
    assert second is not first
    assert first.summary is not None
    assert second.summary is None
    assert len(fake.of("join")) == 2
    assert len(fake.of("leave")) == 1
    second.stop()
    second.stop()
    first.stop()
    assert len(fake.of("leave")) == 2
    assert second.summary is not None


def test_a_start_inside_of_a_block_is_part_of_its_run(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        tracking = carbonmon.track("cell")
        assert tracking.start() is run
        assert tracking.start() is run
    assert run.summary is None, "what was started goes on"
    assert not fake.of("leave")
    tracking.stop()
    assert run.summary is not None
    assert len(fake.of("join")) == len(fake.of("leave")) == 1


def test_a_run_that_was_stopped_in_its_block_is_not_ended_twice(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        with carbonmon.track():
            run.stop()
        assert not run.active
        with run.phase("train"):
            run.progress(1)
    assert len(fake.of("leave")) == 1
    with carbonmon.track() as again:
        assert again is not run
    assert len(fake.of("leave")) == 2


def test_a_run_may_be_stopped_by_another_thread(server: ControlServer, fake: Fake):
    run = carbonmon.track().start()
    thread = threading.Thread(target=run.stop)
    thread.start()
    thread.join(DEADLINE_S)
    assert len(fake.of("leave")) == 1


@contextmanager
def notebook(monkeypatch: pytest.MonkeyPatch, kernel: object) -> Iterator[None]:
    ipython = types.ModuleType("IPython")
    shell = types.SimpleNamespace(kernel=kernel)
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "IPython", ipython)
        yield


def test_a_notebook_has_a_line_when_a_run_begins_and_ends(
    server: ControlServer, fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    fake.last_words = {"totals": {"energy_j": 20.0, "emissions_g": 2.0, "duration_s": 4.0}}
    with notebook(monkeypatch, object()):
        with carbonmon.track():
            assert capsys.readouterr().out == "carbonmon: run outer: its summary will be in /runs/made-up\n"
    said = capsys.readouterr().out
    assert said == "carbonmon: run outer: 20 J, 2 g CO2e in 4.0 s; more: carbonmon report outer\n"


def test_a_program_and_a_prompt_of_ipython_have_no_such_line(
    server: ControlServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with carbonmon.track():
        pass
    with notebook(monkeypatch, None), carbonmon.track():
        pass
    assert capsys.readouterr().out == ""


def test_a_forked_child_that_ends_closes_nothing(server: ControlServer, fake: Fake):
    code = BEGIN + ".start()\nimport os\nif not os.fork():\n  sys.exit(5)\nos.wait()"
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", code], env=env, timeout=DEADLINE_S, check=True)
    until(lambda: fake.left, "the end")
    assert [message["exit_code"] for message in fake.of("leave")] == [0]

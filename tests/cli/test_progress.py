"""Signs of life: a bar where somebody looks on, and nothing in a file, a pipe or a log."""

from __future__ import annotations

import io
import os
import pty
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from carbonmon.cli import progress
from tests.support.command import wait_for
from tests.support.run_folders import a_run, carbonmon


class Screen:
    """A terminal as this process' stderr, and what was written to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._viewer, program = pty.openpty()
        os.set_blocking(self._viewer, False)
        self._text = b""
        monkeypatch.setattr(sys, "stderr", os.fdopen(program, "w"))
        monkeypatch.setenv("TERM", "xterm")

    def text(self) -> str:
        with suppress(BlockingIOError):
            self._text += os.read(self._viewer, 1 << 16)
        return self._text.decode()

    def close(self) -> None:
        sys.stderr.close()
        os.close(self._viewer)


def quick(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Within a test: between a fixture and its test pytest puts its own stderr back."""
    monkeypatch.setattr(progress, "DELAY_S", 0.0)
    monkeypatch.setattr(progress, "PERIOD_S", 0.005)
    return Screen(monkeypatch)


def test_a_bar_says_what_is_done_and_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = quick(monkeypatch)
    for item in progress.over(["a", "b", "c", "d"], "reading\x1b[2J runs"):
        if item == "c":
            wait_for(lambda: "50%" in screen.text(), "half of it")
    assert "reading\\x1b[2J runs, " in screen.text()
    assert screen.text().endswith("\r\x1b[K\x1b[?25h"), "the line is empty, and the cursor is there again"
    screen.close()


def test_work_of_unknown_length_moves_a_bar_without_a_per_cent(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = quick(monkeypatch)
    with progress.working("asking"):
        wait_for(lambda: screen.text().count("asking") > 3, "a bar that moves")
    assert "%" not in screen.text()
    assert screen.text().endswith("\x1b[?25h")
    screen.close()


def test_what_fails_takes_the_bar_away_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = quick(monkeypatch)
    with pytest.raises(RuntimeError, match="a fault"), progress.working("asking", 3):
        wait_for(lambda: "asking" in screen.text(), "a bar")
        raise RuntimeError("a fault")
    assert screen.text().endswith("\x1b[?25h")
    screen.close()


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY_S", 3600.0)
    screen = Screen(monkeypatch)
    assert list(progress.over([1, 2], "reading")) == [1, 2]
    assert screen.text() == ""
    screen.close()


def test_a_terminal_that_knows_no_sequences_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = quick(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    assert list(progress.over([1, 2], "reading")) == [1, 2]
    assert screen.text() == ""
    screen.close()


def test_elsewhere_there_is_no_bar_and_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY_S", 0.0)
    monkeypatch.setattr(progress, "_Bar", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(progress.over([1, 2], "reading")) == [1, 2]
    assert sys.stderr.getvalue() == ""


def test_a_list_of_runs_in_a_pipe_has_no_bar(tmp_path: Path) -> None:
    for number in range(3):
        a_run(tmp_path, f"run-{number}")
    done = carbonmon("runs", "--output", tmp_path)
    assert done.stderr == ""
    assert "\r" not in done.output

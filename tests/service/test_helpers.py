"""Commands of the user's beside the job: whoever waits gets the status, though the main thread reaps them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from carbonmon.service.helpers import Helpers
from tests.support import command as commands

TIMEOUT_S = 20.0


@pytest.fixture
def helpers() -> Iterator[Helpers]:
    """Helpers, with a thread that reaps as the main thread of `carbonmon run` does."""
    found, over = Helpers(), threading.Event()

    def reap() -> None:
        while not over.wait(0.005):
            for pid in list(found._running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    found.reaped(ended, status)

    thread = threading.Thread(target=reap)
    thread.start()
    yield found
    over.set()
    thread.join()


def test_a_command_gets_the_text_as_it_is_and_no_shell(helpers: Helpers, capfd: pytest.CaptureFixture[str]):
    helpers.run(["cat", "-"], "budget $HOME is `reached`\n", TIMEOUT_S)
    helpers.run(["echo", "a;b", "$HOME"], "", TIMEOUT_S)
    out, err = capfd.readouterr()
    assert err == "budget $HOME is `reached`\na;b $HOME\n"
    assert out == "", "the job's output stays its own"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["false"], "exit code 1"),
        (["sh", "-c", "kill -9 $$"], "signal 9"),
        (["no-such-command-anywhere"], "No such file"),
    ],
)
def test_a_command_that_fails_says_how(helpers: Helpers, command: list[str], said: str):
    with pytest.raises(OSError, match=said):
        helpers.run(command, "text", TIMEOUT_S)


def test_a_command_that_does_not_end_is_killed(helpers: Helpers):
    with pytest.raises(TimeoutError, match="was killed"):
        helpers.run(["sleep", "60"], "", 0.05)


def test_nothing_that_a_command_started_outlives_the_end(tmp_path: Path):
    helpers = Helpers()
    script = f"sleep 61 & echo $! >{tmp_path}/child; sleep 62"
    thread = threading.Thread(target=_until_killed, args=(helpers, ["sh", "-c", script]))
    thread.start()
    commands.wait_for(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(), "the child")
    child = int((tmp_path / "child").read_text())
    helpers.wait(thread, 0.0)
    commands.wait_for(lambda: not psutil.pid_exists(child) or _is_dead(child), "the end of the child")


def _until_killed(helpers: Helpers, words: list[str]) -> None:
    with suppress(OSError):
        helpers.run(words, "", 0.5)


def _is_dead(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def test_the_end_waits_for_a_command_a_while():
    helpers = Helpers()
    thread = threading.Thread(target=helpers.run, args=(["true"], "", TIMEOUT_S))
    thread.start()
    helpers.wait(thread, TIMEOUT_S)
    assert not thread.is_alive()

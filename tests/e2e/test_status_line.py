"""`run --status-line` beside jobs that use their terminal: what they show is what they show without it."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.simulator import Constant, Package, Simulator
from tests.support import command
from tests.support.daemon import daemon
from tests.support.terminal import TMUX, Terminal

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(TMUX is None, reason="tmux is not installed: python3 tests/system_deps.py"),
]

RUN = "carbonmon run --listen 127.0.0.1:0 --checkpoint 0.3 --interval 0.1 --quiet --sensor tdp --own-monitor"
TITLE = re.compile(r"~?[\d.]+ m?W, ")

BARS = """
import os, sys, time
for step in range(60):
    sys.stderr.write(f"\\r{step:3}% [" + "#" * (step // 2) + "]")
    sys.stderr.flush()
    if step % 10 == 0:
        print(f"\\nloss \\033[31m{step}\\033[0m")
    time.sleep(0.08)
print("\\nended", os.get_terminal_size().lines)
print("read", sys.stdin.readline().strip())
"""


def shown(terminal: Terminal, words: str, has_title: bool) -> str:
    """What a job leaves on the screen."""
    terminal.enter(f"clear; {words} {sys.executable} bars.py")
    terminal.wait_for("loss")
    if has_title:
        command.wait_for(lambda: TITLE.match(terminal.asked("#{pane_title}")), "the title")
    terminal.wait_for("ended 24")
    terminal.enter("typed")
    text = terminal.wait_for("read typed\n$")
    return text[text.index("loss") :]


def test_bars_sizes_and_input_of_the_job_are_as_without_it(tmp_path: Path) -> None:
    (tmp_path / "bars.py").write_text(BARS)
    with Terminal(tmp_path) as terminal:
        before = terminal.asked("#{pane_title}")
        alone = shown(terminal, "", has_title=False)
        assert shown(terminal, f"{RUN} --status-line --", has_title=True) == alone
        assert shown(terminal, f"{RUN} --", has_title=False) == alone
        command.wait_for(lambda: terminal.asked("#{pane_title}") == before, "the title of before")


def test_a_job_of_whole_screens_stays_whole(tmp_path: Path) -> None:
    code = (
        "import sys, time; w = sys.stdout.write; w('\\033[?1049h\\033[2J\\033[5;10Hwhole screen'); "
        "w('\\033[3;7r\\033[7;1Hin a region\\0337'); sys.stdout.flush(); time.sleep(3.5); "
        "w('\\0338, on'); sys.stdout.flush(); sys.stdin.readline(); w('\\033[r\\033[?1049l')"
    )
    (tmp_path / "screens.py").write_text(code)
    with Terminal(tmp_path) as terminal:
        terminal.enter(f"clear; {RUN} --status-line -- {sys.executable} screens.py; echo back")
        text = terminal.wait_for("in a region, on")
        assert text.splitlines()[4] == "         whole screen"
        assert TITLE.match(terminal.asked("#{pane_title}"))
        assert [line for line in text.splitlines() if line.strip()] == [
            "         whole screen",
            "in a region, on",
        ]
        terminal.enter("")
        terminal.wait_for("back\n$")
        assert terminal.is_plain()


def test_a_killed_monitor_leaves_nothing_but_a_title(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.enter(f"clear; {RUN} --status-line -- sleep 1000")
        command.wait_for(lambda: TITLE.match(terminal.asked("#{pane_title}")), "the title")
        (monitor,) = psutil.Process(int(terminal.asked("#{pane_pid}"))).children()
        job = command.job_of(monitor.pid)
        monitor.send_signal(signal.SIGKILL)
        terminal.wait_for("Killed")
        assert job is not None
        job.kill()
        terminal.enter("for i in $(seq 50); do echo line $i; done; echo over")
        text = terminal.wait_for("\nover\n$")
        assert text.splitlines()[:2] == ["line 29", "line 30"], "the whole screen scrolls"
        assert terminal.is_plain()


def test_a_stopped_run_goes_on_and_one_in_the_background_is_silent(tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.enter(f"clear; stty tostop; {RUN} --status-line -- sleep 1000")
        command.wait_for(lambda: TITLE.match(terminal.asked("#{pane_title}")), "the title")
        terminal.press("C-z")
        terminal.wait_for("Stopped")
        terminal.enter("bg; printf '\\033]2;mine\\033\\\\'")
        command.wait_for(lambda: terminal.asked("#{pane_title}") == "mine", "the title of the shell")
        (monitor,) = psutil.Process(int(terminal.asked("#{pane_pid}"))).children()
        drawn = monitor.cpu_times()
        command.wait_for(lambda: sum(monitor.cpu_times()[:2]) > sum(drawn[:2]) + 0.02, "more samples")
        assert monitor.status() != psutil.STATUS_STOPPED, "a write from the background would have stopped it"
        assert terminal.asked("#{pane_title}") == "mine"
        terminal.enter("fg")
        command.wait_for(lambda: TITLE.match(terminal.asked("#{pane_title}")), "the title again")
        terminal.press("C-c")


def test_the_run_of_a_daemon_has_a_line_too(tmp_path: Path) -> None:
    with Simulator(packages=[Package(profile=Constant(100.0))]) as machine, daemon(machine, tmp_path) as node:
        with Terminal(tmp_path, env={"CARBONMON_SOCKET": str(node.socket)}) as terminal:
            job = "import time; [(sum(range(50_000)), time.sleep(0.01)) for _ in iter(int, 1)]"
            terminal.enter(f"clear; carbonmon run --status-line -- {sys.executable} -c '{job}'")
            title = command.wait_for(lambda: TITLE.match(terminal.asked("#{pane_title}")), "the title")
            assert title is not None
            terminal.press("C-c")
        node.stop()


def test_without_a_terminal_nothing_is_written(tmp_path: Path) -> None:
    done = command.run(
        ["run", "--status-line", "--quiet", "--sensor", "tdp", "--checkpoint", "0.1", "--", "sleep", "2.5"],
        tmp_path,
        env={"TERM": "xterm"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

"""`carbonmon top` as a person has it: in a real terminal, beside real monitors."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command, page_states
from tests.support.daemon import daemon
from tests.support.page_states import Monitor, later, served
from tests.support.records import crowd
from tests.support.terminal import TMUX, Terminal

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(TMUX is None, reason="tmux is not installed: python3 tests/system_deps.py"),
]


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    with page_states.served_hours_in(tmp_path) as running:
        yield running


def test_a_real_run_is_watched_by_its_name_wherever_it_serves(tmp_path: Path) -> None:
    gpus = [Gpu(profile=Constant(300.0)), Gpu(profile=Constant(150.0))]
    with Simulator(gpus=gpus, packages=[Package(profile=Constant(100.0))]) as machine:
        options = ["--idle", "exclusive", "--sysfs", str(machine.sysfs), "--sensor", "nvml,rapl"]
        options += ["--interval", "0.2", "--checkpoint", "0.5", "--name", "vit-large"]
        runtime = tmp_path / "runtime"
        runtime.mkdir(mode=0o700)
        env = {**machine.environ, "XDG_RUNTIME_DIR": str(runtime)}
        process = command.start(["run", *options, "--", "sleep", "60"], tmp_path, env=env)
        try:
            command.metrics_address(process)
            with Terminal(tmp_path, env={"XDG_RUNTIME_DIR": str(runtime)}) as terminal:
                terminal.enter("carbonmon top vit-l")
                terminal.wait_for("no run 'vit-l' is shown by")
                terminal.enter("clear; carbonmon top vit-large")
                text = terminal.wait_for("550 W  ● 550 W measured", "gpu 1   ●  measured", "outside phases")
                assert "vit-large" in text
                terminal.wait_for("POWER OVER")
                terminal.press("q")
                terminal.wait_until_gone("q quit")
                assert terminal.is_plain()
        finally:
            process.terminate()
            process.communicate(timeout=command.DEADLINE_S)


def test_a_daemon_with_two_runs_shows_both_and_one_of_them(tmp_path: Path) -> None:
    with Simulator(packages=[Package(profile=Constant(100.0))]) as machine, daemon(machine, tmp_path) as node:
        node.register("alpha", "--name", "first", "--pid", str(os.getpid()))
        node.register("beta", "--name", "second", "--pid", str(os.getppid()))
        with Terminal(tmp_path) as terminal:
            terminal.enter(f"carbonmon top --url {node.address}")
            terminal.wait_for("2 running", "alpha", "beta", "of no run", "cpu 0")
            terminal.press("s", "s", "s", "s")
            terminal.wait_for("sort: name")
            terminal.press("Down", "Enter")
            terminal.wait_for("second (beta)", "1 other run")
            terminal.press("n")
            terminal.wait_for("2 running")
            node.unregister("beta")
            terminal.wait_for("1 running, 1 ended", "ended")
        node.stop()


def test_keys_sizes_and_stops_leave_the_terminal_as_it_was(monitor: Monitor, tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.enter("stty -a > before; echo here")
        terminal.wait_for("\nhere")
        terminal.enter(f"carbonmon top --url {monitor.url}")
        terminal.wait_for("762 W", "POWER OVER 3 h 00 min", "phase: all")
        assert "here" not in terminal.text()
        terminal.press("p")
        terminal.wait_for("phase: train", "phase      train, 48 min 00 s")
        terminal.press("h")
        terminal.wait_for("this help", "a sensor measured it")
        terminal.press("h", "s")
        terminal.wait_for("sort: power")
        for columns, rows in ((40, 24), (100, 12), (80, 24)):
            terminal.resize(columns, rows)
            text = command.wait_for(
                lambda rows=rows, columns=columns: _fits(terminal, rows, columns), f"{columns} × {rows}"
            )
            assert "q quit" in text
        terminal.press("C-z")
        terminal.wait_for("here", "Stopped")
        assert terminal.is_plain()
        terminal.enter("stty -a > stopped; cmp before stopped && echo same; fg")
        terminal.wait_for("762 W", "sort: power")
        terminal.press("q")
        text = terminal.wait_for("same")
        assert terminal.is_plain()
        terminal.enter("stty -a > after; cmp before after && echo unchanged")
        terminal.wait_for("unchanged")


def _fits(terminal: Terminal, rows: int, columns: int) -> str | None:
    lines = terminal.text().splitlines()
    is_whole = len(lines) == rows and lines[-1].startswith("q quit") and "762 W" in "\n".join(lines)
    return "\n".join(lines) if is_whole and max(map(len, lines)) <= columns else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_restores_the_terminal(monitor: Monitor, tmp_path: Path, number: int) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.enter(f"carbonmon top --url {monitor.url}; echo code $?")
        terminal.wait_for("762 W")
        os.kill(_pid_of_top(terminal), number)
        terminal.wait_for(f"code {128 + number}")
        assert terminal.is_plain()


def _pid_of_top(terminal: Terminal) -> int:
    shell = psutil.Process(int(terminal.asked("#{pane_pid}")))
    return command.wait_for(shell.children, "top")[0].pid


def test_one_that_was_started_in_the_background_waits_for_its_turn(monitor: Monitor, tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.enter(f"carbonmon top --url {monitor.url} &")
        pid = _pid_of_top(terminal)
        command.wait_for(lambda: psutil.Process(pid).num_threads() > 1, "its first look")
        terminal.enter("echo mine")
        assert "762 W" not in terminal.wait_for("\nmine")
        terminal.enter("fg")
        terminal.wait_for("762 W", "q quit")
        terminal.press("q")
        terminal.wait_for("\nmine")
        assert terminal.is_plain()


def test_a_failure_of_our_own_restores_the_terminal(monitor: Monitor, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import sys\n"
        "from carbonmon.top import watch\n"
        "def broken(view, key): raise RuntimeError('a fault of ours')\n"
        "watch.obey = broken\n"
        "from carbonmon.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    with Terminal(tmp_path) as terminal:
        python = Path(command.CARBONMON).with_name("python")
        terminal.enter(f"{python} broken.py top --url {monitor.url}")
        terminal.wait_for("762 W")
        terminal.press("s")
        terminal.wait_for("RuntimeError: a fault of ours")
        assert terminal.is_plain()


def test_a_monitor_that_goes_and_comes_back_is_said(tmp_path: Path) -> None:
    with Simulator(packages=[Package(profile=Constant(100.0))]) as machine, Terminal(tmp_path) as terminal:
        with daemon(machine, tmp_path) as first:
            first.register("alpha", "--pid", str(os.getpid()))
            first.draw(1000.0)
            address = re.sub(r"http://|/metrics", "", first.address)
            terminal.enter(f"carbonmon top --url {address}")
            terminal.wait_for("alpha", "cpu 0")
            first.process.kill()
            first.process.wait()
            text = terminal.wait_for("✕ no newer answer", "Connection refused")
            assert "cpu 0" in text, "what was known stays"
        with daemon(machine, tmp_path, "--listen", address, "--output", str(tmp_path / "others")) as second:
            text = terminal.wait_for("run alpha is not shown there any more: carbonmon report alpha")
            assert "no newer answer" not in text
            terminal.wait_for("the monitor was started anew")
            second.register("beta", "--pid", str(os.getpid()))
            terminal.wait_for("beta")
            second.stop()


def test_names_of_others_reach_no_terminal_as_commands(tmp_path: Path) -> None:
    shown = crowd(3)
    hostile = "\x1b]2;owned\x07\x1b[2J\u202eevil 東京"
    info = shown.runs[0].info._replace(name=hostile)
    with served(shown._replace(runs=(shown.runs[0]._replace(info=info), *shown.runs[1:]))) as running:
        with Terminal(tmp_path, columns=120) as terminal:
            terminal.enter(f"carbonmon top --url {running.url}")
            text = terminal.wait_for("\\x1b]2;owned", "slurm-2")
            assert "3 running" in text, "nothing has cleared the screen"
            assert terminal.asked("#{pane_title}") != "owned"


def test_without_a_terminal_one_frame_is_printed(monitor: Monitor, tmp_path: Path) -> None:
    done = command.run(["top", "--url", monitor.url], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("carbonmon top  node-7 · llama-7b fine-tune (slurm-4242)")
    assert "POWER OVER 3 h 00 min" in done.stdout
    assert "\x1b" not in done.stdout
    narrow = command.run(["top", "last", "--url", monitor.url], tmp_path, env={"COLUMNS": "40"})
    assert max(map(len, narrow.stdout.splitlines())) <= 40
    plain = command.run(
        ["top", "--url", monitor.url], tmp_path, env={"PYTHONIOENCODING": "ascii:backslashreplace"}
    )
    assert "*  measured" in plain.stdout


def test_a_dumb_terminal_gets_one_frame_and_no_colour_means_none(monitor: Monitor, tmp_path: Path) -> None:
    with Terminal(tmp_path, rows=50) as terminal:
        terminal.enter(f"TERM=dumb carbonmon top --url {monitor.url}; echo over")
        terminal.wait_for("762 W", "\nover")
        terminal.enter(f"clear; carbonmon top --url {monitor.url}")
        terminal.wait_for("q quit")
        assert re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.styled())
        terminal.press("q")
        terminal.wait_until_gone("q quit")
        terminal.enter(f"clear; NO_COLOR=1 carbonmon top --url {monitor.url}")
        terminal.wait_for("q quit")
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.styled())


def test_the_view_goes_on_with_the_monitor(monitor: Monitor, tmp_path: Path) -> None:
    with Terminal(tmp_path) as terminal:
        terminal.enter(f"carbonmon top --url {monitor.url}")
        terminal.wait_for("running 1 h 00 min")
        monitor.shown = later(monitor.shown, 600.0)
        terminal.wait_for("running 1 h 10 min")
        (run,) = monitor.shown.runs
        monitor.shown = monitor.shown._replace(
            runs=(run._replace(ended_at_s=monitor.shown.at_s, exit_code=0),)
        )
        terminal.wait_for("ended after 1 h 10 min, exit code 0", "carbonmon report slurm-4242")

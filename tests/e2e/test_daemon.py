"""The daemon as operators meet it: runs come and go, configs change, users are told apart."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from carbonmon.client.rendezvous import connect
from tests.chaos.scraper import Scraper, steps_back
from tests.simulator import Constant, Package, Simulator
from tests.soak.watch import total
from tests.support import checkpoints, command
from tests.support.daemon import Daemon, daemon
from tests.support.servers import free_port

pytestmark = pytest.mark.e2e

BUSY = [sys.executable, "-c", "import time\nwhile True: sum(range(50_000)), time.sleep(0.01)"]
"""It computes for part of the time: the rest is for other tests."""


def machine() -> Simulator:
    return Simulator(packages=[Package(profile=Constant(100.0), dram=Constant(20.0))])


def environ_of(node: Daemon) -> dict[str, str]:
    """What makes `carbonmon run` find this daemon: it is in the user's runtime folder."""
    return {"XDG_RUNTIME_DIR": str(node.folder / "runtime"), "CARBONMON_LISTEN": ""}


def in_runtime_folder(folder: Path) -> list[str]:
    (folder / "runtime" / "carbonmon").mkdir(parents=True, mode=0o700)
    return ["--socket", str(folder / "runtime" / "carbonmon" / "daemon.sock")]


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """What the kernel says that a running process has used."""
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def wait_for_end(node: Daemon, run_id: str) -> None:
    def ended() -> bool:
        path = node.output / run_id / "summary.json"
        return path.exists() and json.loads(path.read_text())["state"] == "final"

    command.wait_for(ended, f"the end of {run_id}")


def test_carbonmon_run_registers_with_the_daemon_and_does_not_sample_itself(tmp_path: Path):
    options = in_runtime_folder(tmp_path)
    with machine() as sim, daemon(sim, tmp_path, *options, "--idle", "exclusive") as node:
        started = command.start(
            ["run", "--name", "mine", "--label", "team=vision", "--", "sh", "-c", "sleep 1; exit 3"],
            tmp_path,
            env=environ_of(node),
        )
        assert started.stderr is not None
        assert "part of run" in started.stderr.readline()
        threads = psutil.Process(started.pid).num_threads()
        _, said = started.communicate(timeout=command.DEADLINE_S)
        metrics = node.metrics()
        assert started.returncode == 3
        assert threads == 1, "nothing samples in this process"
        assert "energy" in said, "the table at the end"
        summary = command.summary(tmp_path)
        assert summary["run"]["labels"] == {"team": "vision"}
        assert summary["run"]["exit_code"] == 3
        lasted_s = summary["run"]["duration_s"]
        assert summary["energy"]["total_j"] == pytest.approx(120.0 * lasted_s, rel=0.05)
        assert f'run_id="{summary["run"]["id"]}"' in metrics, "a run that has ended stays for a while"
        assert node.summary(summary["run"]["id"]) == summary
        node.stop()


def test_an_option_that_the_daemon_cannot_follow_gives_the_job_a_monitor_of_its_own(tmp_path: Path):
    options = in_runtime_folder(tmp_path)
    with machine() as sim, daemon(sim, tmp_path, *options) as node:
        done = command.run(["run", "--region", "FR", "--", "true"], tmp_path, env=environ_of(node))
        assert done.returncode == 0
        assert "part of run" not in done.stderr
        assert command.summary(tmp_path)["carbon"]["intensity"]["zone"] == "FR"


def test_a_command_that_cannot_start_leaves_no_run_with_the_daemon(tmp_path: Path):
    options = in_runtime_folder(tmp_path)
    with machine() as sim, daemon(sim, tmp_path, *options) as node:
        env = environ_of(node) | {"CARBONMON_LISTEN": "127.0.0.1:0"}
        done = command.run(["run", "--", "no-such-command"], tmp_path, env=env)
        assert done.returncode == 127
        assert "no-such-command: No such file or directory" in done.stderr
        assert list(node.output.glob("[!.]*")) == []
    assert list((tmp_path / "carbonmon-runs").iterdir()) == []


def test_a_run_that_was_registered_ends_with_its_process(tmp_path: Path):
    with machine() as sim, daemon(sim, tmp_path) as node:
        with subprocess.Popen(["sleep", "1"]) as job:
            node.register("mine", "--pid", f"{job.pid}", "--label", "a=b")
            wait_for_end(node, "mine")
        assert node.summary("mine")["run"]["labels"] == {"a": "b"}
        node.stop()


def test_a_job_that_has_ended_before_it_is_looked_at_is_no_mistake(tmp_path: Path):
    options = in_runtime_folder(tmp_path)
    with machine() as sim, daemon(sim, tmp_path, *options) as node:
        with connect(node.socket, command.DEADLINE_S) as connection, connection.makefile("rb") as lines:
            ended = subprocess.Popen(["true"])
            ended.wait()
            for number, message in enumerate(
                ({"op": "join", "name": "short"}, {"op": "job", "pid": ended.pid})
            ):
                connection.sendall(json.dumps({"v": 1, "id": number, **message}).encode() + b"\n")
                answer = json.loads(lines.readline())
                assert answer["ok"] is True, answer
        done = command.run(["run", "--", "true"], tmp_path, env=environ_of(node))
        assert "part of run" in done.stderr
        assert "no process" not in done.stderr + node.stop()


def test_a_process_that_joins_a_run_follows_it_or_begins_it(tmp_path: Path):
    """As the hook of a task does: one run lives by request, the other by the process."""
    with machine() as sim, daemon(sim, tmp_path) as node:
        node.register("asked")
        with subprocess.Popen(BUSY) as job:
            node.register("asked", "--join", "--pid", f"{job.pid}")
            node.register("own", "--join", "--pid", f"{job.pid}")
            node.register("asked", "--join", "--pid", f"{job.pid}")
            node.draw(100.0)
            job.kill()
        wait_for_end(node, "own")
        assert node.unregister("asked")["run"]["cpu_s"] > 0.0
        assert "give --pid" in node.call("register", "--run-id", "x", "--join").stderr
        node.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_is_started_again_goes_on_with_its_runs(tmp_path: Path, number: signal.Signals):
    """No joule of a counter is lost, none is counted twice, and a run's CPU time goes on."""
    options = [*in_runtime_folder(tmp_path), "--listen", f"127.0.0.1:{free_port()}"]
    with machine() as sim:
        busy = subprocess.Popen(BUSY)
        wrapped = None
        try:
            with daemon(sim, tmp_path, *options) as first:
                before_s = cpu_s(busy)
                first.register("busy", "--pid", f"{busy.pid}", "--idle", "exclusive")
                registered_s = cpu_s(busy)
                wrapped = command.start(
                    ["run", "--run-id", "wrapped", "--", "sh", "-c", "read line; exit 7"],
                    tmp_path,
                    env=environ_of(first),
                    stdin=subprocess.PIPE,
                )
                command.wait_for(
                    lambda: all(
                        (first.output / run / "checkpoint.json").exists() for run in ("busy", "wrapped")
                    ),
                    "checkpoints",
                )
                first.draw(100.0)
                scraper = Scraper(first.address, 1, longest_pause_s=0.02)
                first.process.send_signal(number)
                first.process.wait(timeout=command.DEADLINE_S)
                before = checkpoints.read(first.output / "busy")
            time.sleep(1.0)  # the outage
            with daemon(sim, tmp_path, *options) as second:
                second.draw(100.0)
                scraper.stop()
                assert steps_back(scraper.scrapes) == [], "not even while it starts"
                totals = [
                    float(line.split()[-1])
                    for line in second.metrics().splitlines()
                    if line.startswith("carbonmon_run_energy_joules_total{") and 'run_id="busy"' in line
                ]
                assert sum(totals) > sum(row[4] for row in before["totals"]), "no step back"
                wrapped.communicate("go on\n", timeout=command.DEADLINE_S)
                assert wrapped.returncode == 7
                assert command.summary(tmp_path)["run"]["exit_code"] == 7
                asked_s = cpu_s(busy)
                run = second.unregister("busy")
                ended_s = cpu_s(busy)
                said = second.stop()
        finally:
            busy.kill()
            busy.wait()
            if wrapped is not None:
                wrapped.kill()
                wrapped.communicate()
    assert "resumed: busy, wrapped" in said
    energy = run["energy"]
    duration_s = run["run"]["duration_s"]
    began, ended = (
        datetime.fromisoformat(run["run"][key].replace("Z", "+00:00")) for key in ("started_at", "ended_at")
    )
    lasted_s = (ended - began).total_seconds()
    assert duration_s == pytest.approx(lasted_s, abs=0.3), "a restart costs none of the outage's second"
    assert sum(phase["duration_s"] for phase in energy["phases"].values()) == pytest.approx(
        duration_s, abs=0.01
    )
    assert energy["total_j"] == pytest.approx(120.0 * duration_s, rel=0.02)
    assert energy["recovered_j"] >= 0.9 * 120.0
    # The kernel's own figures, in ticks of 10 ms: however busy the machine is, and the outage included.
    assert asked_s - registered_s - 0.02 <= run["run"]["cpu_s"] <= ended_s - before_s + 0.02
    assert all(device["unobserved_s"] == 0.0 for device in energy["devices"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_is_started_again_goes_on_with_the_totals_of_its_devices(
    tmp_path: Path, number: signal.Signals
):
    """Also where no run lives: what was drawn meanwhile is nobody's, and Prometheus sees no reset."""
    options = ["--listen", f"127.0.0.1:{free_port()}"]
    with machine() as sim:
        with daemon(sim, tmp_path, *options) as first:
            first.draw(300.0)
            scraper = Scraper(first.address, 1, longest_pause_s=0.02)
            first.process.send_signal(number)
            first.process.wait(timeout=command.DEADLINE_S)
        with daemon(sim, tmp_path, *options) as second:
            second.draw(100.0)
            scraper.stop()
            text = second.metrics()
            second.stop()
    assert steps_back(scraper.scrapes) == []
    drawn_j = total(text, "carbonmon_device_energy_joules_total")
    assert drawn_j > 400.0
    assert total(text, "carbonmon_device_unattributed_energy_joules_total") == pytest.approx(drawn_j)


def test_runs_that_have_ended_are_shown_for_a_while_and_their_folders_stay(tmp_path: Path):
    with machine() as sim, daemon(sim, tmp_path, "--retain", "6") as node:
        node.register("short")
        node.unregister("short")
        command.wait_for(lambda: 'run_id="short"' in node.metrics(), "the run in the metrics")
        command.wait_for(lambda: 'run_id="short"' not in node.metrics(), "its disappearance")
        assert node.summary("short")["state"] == "final"


def test_runs_without_an_id_are_runs_of_their_own(tmp_path: Path):
    options = in_runtime_folder(tmp_path)
    with machine() as sim, daemon(sim, tmp_path, *options) as node:
        first = command.start(["run", "--", "cat"], tmp_path, env=environ_of(node), stdin=subprocess.PIPE)
        assert first.stderr is not None
        assert "part of run" in first.stderr.readline()
        second = command.run(["run", "--", "true"], tmp_path, env=environ_of(node))
        assert "part of run" in second.stderr
        first.communicate("", timeout=command.DEADLINE_S)
        assert len(list(node.output.glob("[!.]*"))) == 2
        assert len(list((tmp_path / "carbonmon-runs").iterdir())) == 2


def test_a_copied_summary_replaces_none_of_an_earlier_run(tmp_path: Path):
    options = in_runtime_folder(tmp_path)
    with machine() as sim, daemon(sim, tmp_path, *options) as node:
        for words in (["--own-monitor", "--name", "old"], ["--name", "new"]):
            environ = environ_of(node) | {"CARBONMON_LISTEN": "127.0.0.1:0" if "old" in words else ""}
            command.run(["run", *words, "--run-id", "same", "--", "true"], tmp_path, env=environ)
        summaries = (tmp_path / "carbonmon-runs").glob("*/summary.json")
        assert sorted(json.loads(each.read_text())["run"]["name"] for each in summaries) == ["new", "old"]


def test_a_process_that_ends_before_it_is_looked_at_ends_its_run(tmp_path: Path):
    with machine() as sim, daemon(sim, tmp_path, "--interval", "2") as node:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as job:
            node.register("short", "--pid", f"{job.pid}")
        wait_for_end(node, "short")


def test_a_daemon_that_was_stopped_and_continued_goes_on(tmp_path: Path):
    with machine() as sim, daemon(sim, tmp_path) as node:
        node.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)  # longer than its wait for a signal
        node.process.send_signal(signal.SIGCONT)
        node.register("later")
        node.stop()


def test_a_new_config_is_taken_at_sighup_and_a_bad_one_changes_nothing(tmp_path: Path):
    config = tmp_path / "carbonmon.toml"
    config.write_text("intensity = 100\n")
    with machine() as sim, daemon(sim, tmp_path, "--idle", "exclusive") as node:

        def intensity() -> str:
            (line,) = [
                line for line in node.metrics().splitlines() if line.startswith("carbonmon_grid_intensity_gr")
            ]
            return line.split()[-1]

        assert intensity() == "100.0"
        node.register("mine")
        node.draw(100.0)
        config.write_text("intensity = 250\n")
        node.process.send_signal(signal.SIGHUP)
        command.wait_for(lambda: intensity() == "250.0", "another config")
        config.write_text("intensity = -1\n")
        node.process.send_signal(signal.SIGHUP)
        command.wait_for(lambda: "the old one stays in force" in node.said(), "a bad config")
        assert intensity() == "250.0"
        config.write_text("intensity = 300\ncpu-tdp = 90\n")
        node.process.send_signal(signal.SIGHUP)
        command.wait_for(lambda: intensity() == "300.0", "a third config")
        summary = node.unregister("mine")
        said = node.stop()
    assert "--intensity: '-1'" in said
    assert "a restart is needed for: cpu_tdp_w" in said
    assert 100.0 < summary["carbon"]["intensity"]["mean_g_per_kwh"] < 300.0, "each joule at its own time's"


def test_another_user_may_not_write_into_a_run(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("taking another user's identity needs root")
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    talk = (
        "import json, os, socket, sys\n"
        "os.setgid(4242); os.setuid(4242)\n"
        "peer = socket.socket(socket.AF_UNIX); peer.connect(sys.argv[1])\n"
        "lines = peer.makefile('rw')\n"
        "for message in json.loads(sys.argv[2]):\n"
        "    lines.write(json.dumps({'v': 1, 'id': 1, **message}) + '\\n'); lines.flush()\n"
        "    print(lines.readline(), end='')\n"
    )

    def as_another(*messages: dict[str, object]) -> list[dict[str, object]]:
        done = subprocess.run(
            [sys.executable, "-c", talk, str(node.socket), json.dumps(messages)],
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    with machine() as sim, daemon(sim, tmp_path) as node, subprocess.Popen(["sleep", "60"]) as job:
        node.register("root-s")
        answers = as_another(
            {"op": "run_phase", "run_id": "root-s", "name": "mine"},
            {"op": "unregister", "run_id": "root-s"},
            {"op": "register", "run_id": "new", "pid": job.pid},
            {"op": "register", "run_id": "new", "uid": 0},
            {"op": "status"},
            {"op": "register", "run_id": "new"},
            {"op": "run_phase", "run_id": "new", "name": "mine"},
            {"op": "join", "run_id": "root-s"},
        )
        job.kill()
        said = [answer.get("error") for answer in answers]
        for position in (0, 1):
            assert "belongs to user 0, and you are 4242" in str(said[position])
        assert "is not yours" in str(said[2])
        assert "only root may register a run of user 0" in str(said[3])
        assert answers[4]["runs"] == [], "nor see it"
        assert said[5:7] == [None, None], "but have runs of one's own"
        assert answers[7]["run_id"] == "root-s-2", "also where another has the id"
        assert node.unregister("root-s")["energy"]["phases"].keys() == {"main"}
        copy = tmp_path / "copy.json"
        assert node.call("unregister", "new", "--summary", str(copy)).returncode == 0
        path = node.output / "new" / "summary.json"
        assert path.stat().st_uid == 4242, "the user can read what root keeps"
        assert json.loads(copy.read_text()) == json.loads(path.read_text())


FLOOD = (
    "import json, sys, time\n"
    "from pathlib import Path\n"
    "from carbonmon.client.rendezvous import connect\n"
    "peer = connect(Path(sys.argv[1]), 5.0)\n"
    "peer.setblocking(False)\n"
    "line = json.dumps({'v': 1, 'op': 'phase', 'name': 'x'}).encode() + b'\\n'\n"
    "begin, sent = time.monotonic(), 0\n"
    "while time.monotonic() < begin + 3:\n"
    "    try: sent += peer.send(line * 100) // len(line)\n"
    "    except BlockingIOError: time.sleep(0.001)\n"
    "    except OSError: break\n"
    "try: print(peer.recv(1 << 16).decode().splitlines()[-1])\n"
    "except BlockingIOError: print('no answer')\n"
)


def test_ten_thousand_messages_a_second_neither_stop_nor_slow_the_sampler(tmp_path: Path):
    """Ticks in a time under the flood, against ticks in the same time without it."""
    with machine() as sim, daemon(sim, tmp_path, "--interval", "0.1") as node:

        def samples_in_two_seconds() -> int:
            folder = node.output / "mine"
            before, begin_s = checkpoints.read(folder), time.monotonic()
            command.wait_for(
                lambda: checkpoints.read(folder)["clock_s"] >= before["clock_s"] + 2.0, "two seconds"
            )
            after = checkpoints.read(folder)
            assert time.monotonic() - begin_s < command.DEADLINE_S
            return round(
                2.0 * (after["samples"] - before["samples"]) / (after["clock_s"] - before["clock_s"])
            )

        node.register("mine")
        command.wait_for(lambda: (node.output / "mine" / "checkpoint.json").exists(), "a checkpoint")
        quiet = samples_in_two_seconds()
        with (
            command.Lateness() as late,
            subprocess.Popen(
                [sys.executable, "-c", FLOOD, str(node.socket)], stdout=subprocess.PIPE, text=True
            ) as flood,
        ):
            loud = samples_in_two_seconds()
            said, _ = flood.communicate(timeout=command.DEADLINE_S)
        # Where processes wait for a CPU the flood's own work takes ticks from the sampler.
        assert loud >= (0.9 if late.most_s < 0.02 else 0.5) * quiet
        assert "error" in said, "and the sender is told"
        summary = node.unregister("mine")
        assert all(device["unobserved_s"] == 0.0 for device in summary["energy"]["devices"])


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"not json\n", "not JSON"),
        (b'{"v": 99, "op": "status"}\n', "version 99 is unknown"),
        (b'{"v": 1, "op": "explode"}\n', "'explode' is unknown; there are join, find, leave"),
        (b'{"v": 1, "op": "phase", "name": "x"}\n', "join first"),
        (b'{"v": 1, "op": "join", "labels": [1]}\n', "labels must be an object"),
        (b"[" * 5000 + b"\n", "not JSON"),
        (b"x" * 200_000, "65536"),
        (b'{"v": 1, "op": "sta', "ended inside a message"),
    ],
)
def test_bad_messages_get_an_answer_that_says_what_is_wrong(tmp_path: Path, sent: bytes, error: str):
    with machine() as sim, daemon(sim, tmp_path) as node:
        peer = connect(node.socket, 5.0)
        peer.settimeout(command.DEADLINE_S)
        try:
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it may have been closed on us in mid-message
        heard = peer.recv(1 << 16).decode()
        peer.close()
        assert json.loads(heard.splitlines()[0])["ok"] is False
        assert error in heard
        node.draw(10.0)


def test_a_cgroup_that_holds_a_run_is_followed_until_it_is_gone(tmp_path: Path):
    """A cgroup's files in the simulated machine's tree: the test writes what the kernel would."""
    with machine() as sim:
        group = sim.sysfs / "fs/cgroup/job"
        group.mkdir()
        (group / "cgroup.procs").write_text(f"{os.getpid()}\n")
        (group / "cpu.stat").write_text("usage_usec 5000000\n")
        with daemon(sim, tmp_path) as node:
            node.register("grouped", "--cgroup", "/job")
            node.draw(50.0)
            (group / "cpu.stat").write_text("usage_usec 12000000\n")
            node.draw(50.0)
            (group / "cgroup.procs").write_text("")
            wait_for_end(node, "grouped")
            assert node.summary("grouped")["run"]["cpu_s"] == pytest.approx(7.0)
            refused = node.call("register", "--cgroup", "/no/such")
            assert refused.returncode == 1
            assert "no such cgroup" in refused.stderr

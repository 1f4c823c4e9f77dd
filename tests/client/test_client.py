"""What training code calls: it is heard where there is a monitor, and does no harm where there is none."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import carbonmon
from carbonmon.client import connection, join_run, rendezvous
from carbonmon.client import part as handle
from carbonmon.core import labels
from carbonmon.core.errors import ConfigError
from carbonmon.service.socket.request import RequestError
from carbonmon.service.socket.server import ControlServer
from tests.support.fake_monitor import DEADLINE_S, Fake, serving, until, warned

pytestmark = pytest.mark.usefixtures("clean")


# With a monitor


def test_a_run_joins_tells_its_phases_and_leaves(server: ControlServer, fake: Fake):
    with carbonmon.track("cifar", labels={"team": "vision", "seed": 3}) as run:
        assert (run.id, run.folder, run.active) == ("outer", "/runs/made-up", True)
        with run.phase("train"):
            with run.phase("evaluate"):
                pass
        run.progress(3, total=10)
    join = fake.of("join")[0]
    assert (join["run_id"], join["name"], join["labels"]) == (
        "outer",
        "cifar",
        {"team": "vision", "seed": "3"},
    )
    assert join["command"][0] == sys.executable
    assert fake.phases == ["train", "evaluate", "train", None]
    assert fake.of("progress")[0]["step"] == 3
    assert fake.of("leave")[0]["exit_code"] == 0
    assert [message["op"] for message in fake.heard].index("progress") < len(fake.heard) - 1
    until(lambda: fake.left, "the end")


def test_labels_beyond_the_room_of_a_run_are_left_out_and_the_first_one_is_named(
    server: ControlServer, fake: Fake, caplog: pytest.LogCaptureFixture
):
    given = {"team": "vision", "prompt": "x" * 150, **{f"k{number}": "y" * 100 for number in range(20)}}
    with carbonmon.track(labels=given):
        pass
    kept = fake.of("join")[0]["labels"]
    assert list(kept.items()) == list(given.items())[: len(kept)]
    assert 900 < labels.size_bytes(kept.items()) <= labels.MAX_BYTES
    assert f"'k{len(kept) - 2}'" in caplog.text


def test_labels_with_names_of_the_metrics_are_left_out_and_named(
    server: ControlServer, fake: Fake, caplog: pytest.LogCaptureFixture
):
    with carbonmon.track(labels={"team": "vision", "method": "lora", "run-id": "7"}):
        pass
    assert fake.of("join")[0]["labels"] == {"team": "vision"}
    assert "the labels ['method', 'run-id'] are left out" in caplog.text


def test_a_phase_says_when_it_began_by_the_node_s_clock(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        with run.phase("train"):
            after_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before_s <= fake.of("phase")[0]["at_s"] <= after_s


def test_the_ranks_and_the_gpus_of_the_launcher_are_told(
    server: ControlServer, fake: Fake, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "4242")
    with carbonmon.track():
        pass
    join = fake.of("join")[0]
    assert (join["rank"], join["local_rank"], join["world_size"], join["local_size"]) == (5, 1, 8, 4)
    assert (join["scheduler"], join["scheduler_job_id"]) == ("slurm", "4242")
    assert join["environ"] == {"CUDA_VISIBLE_DEVICES": "1"}


def test_a_snapshot_has_what_the_monitor_knows_and_none_for_the_rest(server: ControlServer):
    with carbonmon.track() as run:
        snapshot = run.snapshot()
    assert snapshot["energy_j"] == 12.5
    assert snapshot["run_id"] == "outer"
    assert snapshot["emissions_g"] is None
    assert "ok" not in snapshot


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("träin ☃ 训练", "träin ☃ 训练"),
        ("a\"b'c\\d\n\t\r\x01", "a\"b'c\\d\n\t\r\x01"),
        ("😀", "😀"),
        ("a\ud800b", "a?b"),
        ("x" * 5000, "x" * 200),
        ("", ""),
        (7, "7"),
        (None, "None"),
    ],
)
def test_a_phase_may_have_any_name(server: ControlServer, fake: Fake, name: object, told: str):
    with carbonmon.track() as run:
        with run.phase(name):
            pass
    assert fake.phases[0] == told


def test_a_name_that_cannot_be_a_text_ends_no_training(server: ControlServer, fake: Fake):
    class Odd:
        def __str__(self) -> str:
            raise ValueError("never")

    with carbonmon.track() as run:
        with run.phase(Odd()):
            pass
    assert fake.phases[0] == "<Odd>"


def test_phases_are_restored_and_exceptions_pass_unchanged(server: ControlServer, fake: Fake):
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        with carbonmon.track() as run:
            with run.phase("outer"):
                with suppress(KeyError):
                    with run.phase("inner"):
                        raise KeyError
                raise error
    assert caught.value is error
    assert fake.phases == ["outer", "inner", "outer", None]
    assert fake.of("leave")[0]["exit_code"] == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (SystemExit(3), {"exit_code": 3}),
        (SystemExit(), {"exit_code": 0}),
        (SystemExit("no"), {"exit_code": 1}),
        (KeyboardInterrupt(), {"signal": 2}),
    ],
)
def test_the_end_is_told_as_the_process_will_end(
    server: ControlServer, fake: Fake, error: BaseException, outcome: dict[str, int]
):
    with pytest.raises(type(error)):
        with carbonmon.track():
            raise error
    assert outcome.items() <= fake.of("leave")[0].items()


def test_phases_of_threads_share_one_stack_and_leave_it_empty(server: ControlServer, fake: Fake):
    def work(run: carbonmon.Run, name: str) -> None:
        for _ in range(50):
            with run.phase(name):
                pass

    with carbonmon.track() as run:
        threads = [threading.Thread(target=work, args=(run, f"phase {n}")) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # under load a message may have been dropped: the next word to the monitor makes up for it
        until(lambda: run.snapshot() and fake.phases[-1] is None, "the end of all phases")


def test_progress_is_told_now_and_then_and_the_last_one_always(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        for step in range(5000):
            run.progress(step)
        run.progress(float("nan"))
        run.progress("much")  # type: ignore[arg-type] # what a user may do all the same
    told = [message["step"] for message in fake.of("progress")]
    assert told[0] == 0
    assert told[-1] == 4999
    assert len(told) < 500


def test_what_is_counted_between_two_messages_is_in_the_next_one(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        for step in range(100):
            if step % 2:
                run.progress(step, tokens=64 * step, precision="bf16")
            else:
                run.progress(step)
    told = fake.of("progress")
    assert (told[-1]["step"], told[-1]["tokens"], told[-1]["precision"]) == (99, 64 * 99, "bf16")
    assert all(0.0 <= message["age_s"] < DEADLINE_S for message in told)


def test_nested_tracking_is_one_participant(server: ControlServer, fake: Fake):
    with carbonmon.track("outer") as outer:
        with carbonmon.track("inner") as inner:
            assert inner is outer
        assert outer.active
        assert not fake.of("leave")
    assert not outer.active
    assert len(fake.of("join")) == len(fake.of("leave")) == 1


def test_two_threads_that_track_are_one_participant(server: ControlServer, fake: Fake):
    barrier = threading.Barrier(2)

    def work() -> None:
        with carbonmon.track():
            barrier.wait(DEADLINE_S)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fake.of("join")) == len(fake.of("leave")) == 1


# Which monitor


def test_children_find_the_run_in_their_environment_until_it_ends(path: Path, fake: Fake):
    (daemon := rendezvous.daemon_sockets()[0]).unlink(missing_ok=True)
    with serving(daemon, fake):
        with carbonmon.track(run_id="mine"):
            assert os.environ["CARBONMON_SOCKET"] == os.fspath(daemon)
            assert os.environ["CARBONMON_RUN"] == "mine"
            code = "import carbonmon\nwith carbonmon.track() as run: print(run.id)"
            child = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=DEADLINE_S
            )
    assert child.stdout == "mine\n"
    assert "CARBONMON_SOCKET" not in os.environ
    assert "CARBONMON_RUN" not in os.environ
    assert [message["run_id"] for message in fake.of("join")] == ["mine", "mine"]


def test_a_daemon_is_joined_by_the_launcher_s_run_id(fake: Fake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4242")
    with serving(rendezvous.daemon_sockets()[0], fake):
        with carbonmon.track() as run:
            assert run.id == "slurm-4242"
    assert fake.of("join")[0]["named"] is True


def test_a_daemon_is_told_that_a_process_without_a_launcher_has_no_name_for_its_run(fake: Fake):
    with serving(rendezvous.NODE_SOCKET, fake):
        with carbonmon.track() as run:
            assert run.id == f"pid-{os.getpid()}"
    assert fake.of("join")[0]["named"] is False


def test_without_a_daemon_a_monitor_is_started_for_the_run(fake: Fake, monkeypatch: pytest.MonkeyPatch):
    starts: list[tuple[Any, ...]] = []
    servers: list[ControlServer] = []

    def start(socket_path: Path, arguments: list[str], environ: dict[str, str], timeout_s: float) -> None:
        starts.append((socket_path, arguments, environ["CARBONMON_REGION"]))
        servers.append(ControlServer(socket_path, fake))
        servers[-1].start()

    monkeypatch.setattr(join_run, "start_monitor", start)
    fake.refuse_join = [RequestError("the run of before ends", retry=True)]
    with carbonmon.track("cifar", region="DE") as run:
        assert run.id == "made-up"
    servers[0].close()
    assert starts == [(rendezvous.run_socket(f"pid-{os.getpid()}"), (), "DE")]
    assert [message.get("run_id") for message in fake.of("join")] == [None, None]


def test_a_socket_of_a_run_that_is_over_does_not_stop_the_search(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("CARBONMON_SOCKET", os.fspath(tmp_path / "stale.sock"))
    with serving(rendezvous.daemon_sockets()[0], fake):
        with carbonmon.track() as run:
            assert run.active
    assert os.environ["CARBONMON_SOCKET"] == os.fspath(tmp_path / "stale.sock")


# Without a monitor


def test_without_a_monitor_one_warning_says_why_and_everything_does_nothing(
    caplog: pytest.LogCaptureFixture,
):
    for _ in range(3):
        with carbonmon.track() as run:
            with run.phase("train"):
                run.progress(1)
            assert (run.id, run.folder, run.active) == (None, None, False)
            assert set(run.snapshot().values()) == {None}
            assert "CARBONMON_SOCKET" not in os.environ
    assert warned(caplog) == ["carbonmon: this run is not metered: not here"]


def test_a_monitor_that_could_not_start_is_not_started_at_every_call(monkeypatch: pytest.MonkeyPatch):
    starts: list[int] = []

    def start(*_: object) -> None:
        starts.append(1)
        raise ConfigError("no")

    monkeypatch.setattr(join_run, "start_monitor", start)
    for _ in range(3):
        with carbonmon.track():
            pass
    assert len(starts) == 1


def test_a_monitor_that_dies_at_every_join_is_not_started_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    starts: list[int] = []

    def connect_or_start(_: Path, start: Callable[[float], None], timeout_s: float) -> Any:
        start(timeout_s)
        raise ConnectionResetError("it is gone")

    monkeypatch.setattr(join_run, "start_monitor", lambda *_: starts.append(1))
    monkeypatch.setattr(join_run, "connect_or_start", connect_or_start)
    with carbonmon.track():
        pass
    assert len(starts) == 3
    assert warned(caplog) == ["carbonmon: this run is not metered: it is gone"]


def test_a_monitor_that_refuses_is_named_as_the_reason(
    server: ControlServer, fake: Fake, caplog: pytest.LogCaptureFixture
):
    fake.refuse_join = [RequestError("no room")]
    with carbonmon.track() as run:
        assert not run.active
    assert "no room" in warned(caplog)[0]


def test_a_bug_of_ours_while_joining_ends_no_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(handle, "join_run", lambda *_: 1 / 0)
    with carbonmon.track() as run:
        assert not run.active
    assert "a bug" in warned(caplog)[0]


def test_disabled_means_silent(
    server: ControlServer, fake: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("CARBONMON_DISABLE", "1")
    with carbonmon.track() as run:
        with run.phase("train"):
            assert run.snapshot()["energy_j"] is None
    assert not fake.heard
    assert not warned(caplog)


# A monitor that fails meanwhile


def test_a_monitor_that_ends_is_warned_of_once_and_training_goes_on(
    server: ControlServer, fake: Fake, caplog: pytest.LogCaptureFixture
):
    with carbonmon.track() as run:
        server.close()
        for step in range(100):
            with run.phase("train"):
                run.progress(step)
        assert not run.active
        assert run.snapshot()["energy_j"] is None
    assert sum("the training goes on" in text for text in warned(caplog)) == 1
    assert len(warned(caplog)) <= 3


def test_a_monitor_that_comes_back_is_joined_again_and_told_the_phase(
    server: ControlServer, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connection, "RETRY_S", 0.0)
    again = Fake()
    with carbonmon.track(name="cifar") as run:
        with run.phase("train"):
            server.close()
            with run.phase("lost"):
                pass
            with serving(path, again):
                with run.phase("evaluate"):
                    until(lambda: again.phases, "the phase")
                    assert run.active
                    assert run.snapshot()["energy_j"] == 12.5
                until(lambda: again.phases[-1] == "train", "the outer phase")
    assert [message["op"] for message in again.heard][:2] == ["join", "phase"]
    assert (again.of("join")[0]["run_id"], again.of("join")[0]["name"]) == ("outer", "cifar")
    assert again.phases[0] == "evaluate"


def test_a_lost_monitor_is_looked_for_once_in_ten_seconds(
    server: ControlServer, monkeypatch: pytest.MonkeyPatch
):
    tries: list[float] = []

    def connect(_: Path, timeout_s: float) -> Any:
        tries.append(timeout_s)
        raise ConnectionRefusedError

    with carbonmon.track() as run:
        server.close()
        monkeypatch.setattr(connection, "connect", connect)
        for _ in range(1000):
            with run.phase("train"):
                pass
    assert tries == [connection.RECONNECT_S]


def test_a_monitor_that_no_longer_knows_the_run_is_left_alone(
    server: ControlServer, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    again = Fake()
    again.refuse_join = [RequestError("unknown run")] * 100
    with carbonmon.track() as run:
        server.close()
        monkeypatch.setattr(connection, "RETRY_S", 0.0)
        with serving(path, again):
            with run.phase("train"):
                pass
            until(lambda: again.of("join"), "the second join")
            monkeypatch.setattr(connection, "RETRY_S", 1000.0)

            def is_lost() -> bool:
                with run.phase("again"):
                    return not run.active

            until(is_lost, "the refusal")
    assert "carbonmon's monitor says: unknown run" in warned(caplog)


def test_a_monitor_that_does_not_read_costs_messages_and_no_time(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(handle, "LEAVE_S", 0.05)
    monkeypatch.setattr(handle, "SNAPSHOT_S", 0.05)
    monkeypatch.setenv("CARBONMON_SOCKET", os.fspath(path))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(path))
        listening.listen()
        heard: list[Any] = []

        def answer_once() -> None:
            connection, _ = listening.accept()
            request = json.loads(connection.makefile("rb").readline())
            connection.sendall(json.dumps({"v": 1, "id": request["id"], "ok": True}).encode() + b"\n")
            heard.append(connection)

        thread = threading.Thread(target=answer_once)
        thread.start()
        with carbonmon.track() as run:
            thread.join()
            slowest_s = 0.0
            for _ in range(5000):
                begin_s = time.monotonic()
                with run.phase("train"):
                    pass
                slowest_s = max(slowest_s, time.monotonic() - begin_s)
            assert run.snapshot()["energy_j"] is None
        heard[0].close()
    assert slowest_s < 1.0
    assert sum("was dropped" in text for text in warned(caplog)) == 1


def test_a_monitor_that_does_not_answer_holds_nobody_up_for_ever(
    server: ControlServer, fake: Fake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(handle, "LEAVE_S", 0.05)
    monkeypatch.setattr(handle, "SNAPSHOT_S", 0.05)
    monkeypatch.setattr(connection, "RETRY_S", 0.0)
    monkeypatch.setattr(connection, "RECONNECT_S", DEADLINE_S)
    with carbonmon.track() as run:
        fake.silent = True
        assert run.snapshot()["energy_j"] is None
        fake.silent = False
        assert run.snapshot()["energy_j"] == 12.5
        fake.silent = True


# What it costs


def test_importing_carbonmon_imports_nothing_but_its_version():
    code = "import sys; before = set(sys.modules); import carbonmon; print(*set(sys.modules) - before)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(child.stdout.split()) == ["carbonmon", "carbonmon.version"]


def test_the_client_imports_none_of_the_monitor_s_machinery():
    code = "import sys; from carbonmon import track; print(*sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"click", "psutil", "pynvml", "prometheus_client", "subprocess", "asyncio", "inspect"}
    # From Python 3.14 on logging itself loads inspect.
    logs = [sys.executable, "-c", "import sys, logging; print(*sys.modules)"]
    known = subprocess.run(logs, capture_output=True, text=True, check=True).stdout.split()
    loaded = set(child.stdout.split()).difference(known)
    assert not heavy & loaded
    ours = {name for name in loaded if name.startswith("carbonmon")}
    core = ("errors", "files", "labels", "patterns", "plain_text", "records", "ways")
    allowed = ("carbonmon.client", *(f"carbonmon.core.{name}" for name in core))
    assert {name for name in ours if not name.startswith(allowed)} == {
        "carbonmon",
        "carbonmon.core",
        "carbonmon.version",
    }


def test_a_name_that_there_is_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trak'"):
        carbonmon.trak  # type: ignore[attr-defined] # noqa: B018

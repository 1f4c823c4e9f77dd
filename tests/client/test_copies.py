"""Copies of a run, and what forked and spawned processes have of it: handles that harm nobody."""

from __future__ import annotations

import copy
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle  # type: ignore[import-untyped]
import pytest

import carbonmon
from carbonmon.client import current
from carbonmon.service.socket.server import ControlServer
from tests.support.fake_monitor import DEADLINE_S, Fake, in_child

pytestmark = pytest.mark.usefixtures("clean")

WORKERS = """
import multiprocessing, os, sys
import carbonmon

class Dataset:
    def __init__(self, run):
        self.run = run
        self.phase = run.phase("load")

    def load(self, index):
        with self.phase:
            self.run.progress(index)
        return self.run.energy_j, self.run.snapshot()["energy_j"], self.run.id, os.getpid()

def main():
    with carbonmon.track() as run:
        dataset = Dataset(run)
        for method in ("fork", "spawn", "forkserver"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                for energy_j, told_j, run_id, pid in pool.map(dataset.load, range(4)):
                    assert (energy_j, told_j, run_id) == (12.5, 12.5, "outer")
                    assert pid != os.getpid()
        assert run.energy_j == 12.5
    print("done")

if __name__ == "__main__":
    main()
"""


def test_workers_of_every_start_method_take_part_by_a_connection_of_their_own(
    server: ControlServer, fake: Fake, tmp_path: Path
):
    script = tmp_path / "train.py"
    script.write_text(WORKERS)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=3 * DEADLINE_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    joined = fake.of("join")
    assert len({message["pid"] for message in joined}) == len(joined)
    parent = [message for message in joined if not message.get("helper")]
    assert len(parent) == 1
    own = {message["pid"] for message in joined} - {parent[0]["pid"]}
    assert {message["pid"] for message in fake.of("phase")} <= own
    assert {message["pid"] for message in fake.of("progress")} <= own


def test_workers_without_a_monitor_do_nothing(tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(WORKERS.replace("assert", "pass;"))
    env = {**os.environ, "CARBONMON_OFF": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=env,
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_copy_in_this_process_is_the_run_itself_while_it_lives(
    server: ControlServer, fake: Fake, monkeypatch: pytest.MonkeyPatch, protocol: int
):
    with carbonmon.track() as run:
        phase = run.phase("train")
        kept = pickle.dumps({"run": run, "phase": phase}, protocol)
        again = pickle.loads(kept)
        assert again["run"] is copy.copy(run) is copy.deepcopy(run) is run
        with again["phase"]:
            pass
    assert fake.phases == ["train", None]
    monkeypatch.delenv("CARBONMON_RUN")
    left = pickle.loads(kept)
    with left["phase"]:
        left["run"].progress(1)
    assert math.isnan(left["run"].energy_j)
    assert left["run"].snapshot()["energy_j"] is None
    assert not left["run"].active
    left["run"].stop()
    assert len(fake.of("join")) == 1


def test_functions_that_close_over_a_run_are_pickled_by_value(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:

        def energy_j() -> float:
            return run.energy_j

        assert cloudpickle.loads(cloudpickle.dumps(energy_j))() == 12.5
        tracking = carbonmon.track("other")
        assert pickle.loads(pickle.dumps(tracking))._options == tracking._options


def test_a_run_that_was_never_metered_can_be_copied():
    with carbonmon.track() as run:
        again = copy.deepcopy(run)
        with again.phase("train"):
            again.progress(1)
        assert math.isnan(again.energy_j)


def test_a_handle_takes_no_part_in_another_run(
    server: ControlServer, fake: Fake, monkeypatch: pytest.MonkeyPatch
):
    handle = current.restored("elsewhere")
    assert not handle.active
    assert math.isnan(handle.energy_j)
    assert not fake.heard


def test_in_a_forked_child_the_inherited_run_has_a_connection_of_its_own(server: ControlServer, fake: Fake):
    def use(run: carbonmon.Run) -> None:
        with run.phase("child"):
            run.progress(1)
        assert run.snapshot()["energy_j"] == 12.5

    with carbonmon.track() as run:
        with run.phase("train"):
            assert in_child(lambda: use(run)) == 0
        assert run.energy_j == 12.5
    parents = [message for message in fake.of("phase") if message["pid"] == os.getpid()]
    assert [message["name"] for message in parents] == ["train", None]
    children = [message for message in fake.of("phase") if message["pid"] != os.getpid()]
    assert [message["name"] for message in children] == ["child", None]


def test_a_phase_that_a_child_inherited_is_left_there_without_a_word(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        phase = run.phase("train")
        with phase:
            assert in_child(lambda: phase.__exit__(None, None, None)) == 0
    assert {message["pid"] for message in fake.of("phase")} == {os.getpid()}


def test_a_fork_while_another_thread_waits_for_an_answer_leaves_no_lock(server: ControlServer, fake: Fake):
    with carbonmon.track() as run:
        with run._part._lock:
            assert run._part._joined is not None
            with run._part._joined.connection._request_lock:
                assert in_child(lambda: run.phase("child").__enter__()) == 0


def test_a_forked_child_that_leaves_the_block_leaves_the_run_to_its_parent(server: ControlServer, fake: Fake):
    tracking = carbonmon.track()
    with tracking:
        assert in_child(lambda: tracking.__exit__(None, None, None)) == 0
        assert os.environ["CARBONMON_RUN"] == "outer"
        assert not fake.of("leave")
    assert len(fake.of("leave")) == 1


def test_a_forked_child_that_tracks_is_a_participant_of_its_own(server: ControlServer, fake: Fake):
    def child() -> None:
        with carbonmon.track() as run:
            assert run.active
            with run.phase("child"):
                pass

    with carbonmon.track():
        assert in_child(child) == 0
    assert len({message["pid"] for message in fake.of("join")}) == 2
    assert len(fake.of("leave")) == 2


def test_a_child_by_multiprocessing_that_tracks_is_a_participant(server: ControlServer, fake: Fake):
    with carbonmon.track():
        child = multiprocessing.get_context("fork").Process(target=track_once)
        child.start()
        child.join(DEADLINE_S)
        assert child.exitcode == 0
    assert [message.get("helper") for message in fake.of("join")] == [None, None]


def track_once() -> None:
    with carbonmon.track() as run:
        assert run.active

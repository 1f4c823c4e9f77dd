"""`carbonmon pods` between a daemon on a simulated machine and an API server: pods become runs, and end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from carbonmon.client.connection import MonitorConnection
from carbonmon.client.rendezvous import connect
from tests.simulator import Constant, Package, Simulator
from tests.support import apiserver, command
from tests.support.apiserver import TOKEN, UID, ApiServer, pod
from tests.support.daemon import Daemon, daemon

pytestmark = pytest.mark.e2e

OTHER_UID = "aaaaaaaa-8a9e-4f0a-9d0b-5c3f7c1b2a10"


def machine() -> Simulator:
    return Simulator(packages=[Package(profile=Constant(100.0))])


class Group:
    """The cgroup of a pod as files: a container of it holds this process."""

    def __init__(self, sim: Simulator, uid: str = UID) -> None:
        slice_ = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
        self.folder = sim.sysfs / "fs/cgroup/kubepods.slice/kubepods-burstable.slice" / slice_
        self._used_us = 0
        (self.folder / "cri-containerd-0123.scope").mkdir(parents=True)
        self.use(1.0)
        (self.folder / "cgroup.procs").write_text("")
        (self.folder / "cri-containerd-0123.scope/cgroup.procs").write_text(f"{os.getpid()}\n")

    def use(self, cpu_s: float) -> None:
        self._used_us += int(cpu_s * 1e6)
        (self.folder / "new").write_text(f"usage_usec {self._used_us}\nuser_usec 1\nsystem_usec 1\n")
        (self.folder / "new").rename(self.folder / "cpu.stat")

    def end(self) -> None:
        shutil.rmtree(self.folder)


class Pods:
    """`carbonmon pods` for node-1."""

    def __init__(self, node: Daemon, server: ApiServer, sysfs: Path, *options: str) -> None:
        (node.folder / "token").write_text(TOKEN)
        self._log = node.folder / f"pods-{len(list(node.folder.glob('pods-*')))}.log"
        program = "from carbonmon.cli.pods import command; command(prog_name='carbonmon pods')"
        words = ["--api-url", server.url, "--node", "node-1", "--service-account", str(node.folder)]
        words += ["--socket", str(node.socket), "--sysfs", str(sysfs), "--log-level", "info", *options]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *words], env=command.environ(), stderr=log, cwd=node.folder
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait(self, text: str) -> None:
        command.wait_for(lambda: text in self.said, text)


@contextmanager
def pods(node: Daemon, server: ApiServer, sim: Simulator, *options: str) -> Iterator[Pods]:
    running = Pods(node, server, sim.sysfs, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def runs(node: Daemon) -> dict[str, dict[str, Any]]:
    connection = MonitorConnection(node.socket, connect(node.socket, 2.0), {})
    try:
        return {run["run_id"]: run for run in connection.request({"op": "status"}, 10.0)["runs"]}
    finally:
        connection.close()


def wait_for_runs(node: Daemon, *expected: str) -> None:
    command.wait_for(lambda: set(runs(node)) == set(expected), f"the runs {expected}")


def test_a_pod_is_a_run_from_its_cgroup_s_first_process_to_its_end(tmp_path: Path):
    with machine() as sim, daemon(sim, tmp_path) as node, ApiServer() as server, pods(node, server, sim):
        server.put(pod(phase="Pending", user=1000))
        group = Group(sim)
        wait_for_runs(node, "train-7")
        owner = 1000 if os.geteuid() == 0 else os.geteuid()
        assert runs(node)["train-7"]["uid"] == owner
        assert runs(node)["train-7"]["name"] == "ml/train-0-x7k2p"
        for _ in range(4):
            group.use(0.5)
            node.draw(20.0)
        assert 'k8s_pod_name="train-0-x7k2p"' in node.metrics()
        server.put(pod(phase="Failed", user=1000, exit_codes=(0, 3)))
        wait_for_runs(node)
        summary = node.summary("train-7")
    run = summary["run"]
    assert run["exit_code"] == 3
    assert (run["scheduler"], run["scheduler_job_id"]) == ("kubernetes", "ml/train")
    assert run["labels"] == {
        "k8s.node.name": "node-1",
        "k8s.namespace.name": "ml",
        "k8s.pod.name": "train-0-x7k2p",
        "k8s.pod.uid": UID,
        "k8s.job.name": "train",
    }
    assert 0.0 < summary["energy"]["total_j"] <= summary["energy"]["node"]["total_j"] * (1.0 + 1e-9)


def test_pods_without_the_annotation_and_those_of_other_nodes_are_left_alone(tmp_path: Path):
    strangers = (pod(annotations={}), pod("far", OTHER_UID, node="node-2"))
    with machine() as sim, daemon(sim, tmp_path) as node, ApiServer(strangers) as server:
        groups = [Group(sim), Group(sim, OTHER_UID)]
        with pods(node, server, sim):
            server.put(pod("mine", "bbbb", annotations={"carbonmon.io/run-id": ""}))
            groups.append(Group(sim, "bbbb"))
            wait_for_runs(node, "train")


def test_two_pods_of_a_run_on_one_node_are_two_runs_and_none_is_lost(tmp_path: Path):
    both = (pod(), pod("train-1", OTHER_UID))
    with machine() as sim, daemon(sim, tmp_path) as node, ApiServer(both) as server:
        Group(sim)
        Group(sim, OTHER_UID)
        with pods(node, server, sim):
            wait_for_runs(node, "train-7", "train-7.train-1")
            server.put(pod(phase="Succeeded", exit_codes=(0,)))
            wait_for_runs(node, "train-7.train-1")


def test_a_restart_of_the_program_takes_its_runs_up_and_sees_what_it_missed(tmp_path: Path):
    with machine() as sim, daemon(sim, tmp_path) as node, ApiServer((pod(),)) as server:
        Group(sim)
        with pods(node, server, sim) as first:
            wait_for_runs(node, "train-7")
            first.process.terminate()
            assert first.process.wait(command.DEADLINE_S) == 0
        before = server.watches  # the first program may have ended before its own
        with pods(node, server, sim) as second:
            second.wait("pods of node node-1")
            command.wait_for(lambda: server.watches > before, "the second program's watch")
            server.put(pod("next", "bbbb"))
            Group(sim, "bbbb")
            wait_for_runs(node, "train-7", "train-7.next")
        server.put(pod(phase="Succeeded", exit_codes=(0,)))
        with pods(node, server, sim):
            wait_for_runs(node, "train-7.next")
            assert node.summary("train-7")["run"]["exit_code"] == 0


def test_a_restart_of_the_daemon_leaves_the_runs_as_they_are(tmp_path: Path):
    with machine() as sim, ApiServer((pod(),)) as server:
        Group(sim)
        with daemon(sim, tmp_path) as node, pods(node, server, sim) as program:
            wait_for_runs(node, "train-7")
            node.stop()
            server.put(pod())  # else it would ask its daemon only after some seconds
            program.wait("pods wait for the daemon of this node")
            with daemon(sim, tmp_path) as again:
                server.put(pod("next", "bbbb"))
                Group(sim, "bbbb")
                wait_for_runs(again, "train-7", "train-7.next")
                server.put(pod(phase="Succeeded", exit_codes=(0,)))
                wait_for_runs(again, "train-7.next")


def test_a_pod_that_the_list_lacks_lives_as_long_as_its_processes(tmp_path: Path):
    with machine() as sim, daemon(sim, tmp_path) as node, ApiServer((pod(),)) as server:
        group = Group(sim)
        with pods(node, server, sim):
            wait_for_runs(node, "train-7")
            server.oldest = 10_000  # the next watch begins with a new list
            server.remove(UID, quietly=True)
            server.cut()
            command.wait_for(lambda: server.lists > 1, "another list")
            server.oldest = 0
            server.put(pod("next", "bbbb"))
            Group(sim, "bbbb")
            wait_for_runs(node, "train-7", "train-7.next")
            group.end()
            wait_for_runs(node, "train-7.next")


def test_a_run_that_was_ended_by_hand_does_not_come_back(tmp_path: Path):
    with machine() as sim, daemon(sim, tmp_path) as node, ApiServer((pod(),)) as server:
        Group(sim)
        with pods(node, server, sim):
            wait_for_runs(node, "train-7")
            node.unregister("train-7")
            server.put(pod("next", "bbbb", annotations={"carbonmon.io/run-id": "n"}))
            Group(sim, "bbbb")
            wait_for_runs(node, "n")
            server.put(pod("last", "cccc", annotations={"carbonmon.io/run-id": "l"}))
            Group(sim, "cccc")
            wait_for_runs(node, "n", "l")


def test_what_the_api_server_refuses_is_said_once_and_asked_for_again(tmp_path: Path):
    said = 'pods is forbidden: User "system:serviceaccount:c:c" cannot list resource "pods"'
    with machine() as sim, daemon(sim, tmp_path) as node, ApiServer((pod(),)) as server:
        Group(sim)
        server.refusal = apiserver.status(403, "Forbidden", said)
        with pods(node, server, sim) as program:
            command.wait_for(lambda: len(server.tokens) > 1, "a second request")
            assert program.said.count(said) == 1
            server.refusal = None
            wait_for_runs(node, "train-7")


def test_what_is_missing_is_said_before_anything_is_asked(tmp_path: Path):
    program = "from carbonmon.cli.pods import command; command(prog_name='carbonmon pods')"
    for words, said in (
        ([], "no API server: this is no pod of a cluster"),
        (["--api-url", "https://127.0.0.1"], "give the node's name"),
        (["--api-url", "http://192.0.2.1", "--node", "n"], "show the token to the network"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            env=command.environ(),
            capture_output=True,
            text=True,
            timeout=command.DEADLINE_S,
            check=False,
        )
        assert done.returncode == 2
        assert said in done.stderr


def test_the_log_is_for_collectors_too(tmp_path: Path):
    with machine() as sim, daemon(sim, tmp_path) as node, ApiServer((pod(),)) as server:
        Group(sim)
        with pods(node, server, sim, "--log-format", "json", "--quiet") as program:
            program.wait("is run train-7")
            program.process.send_signal(signal.SIGTERM)
            program.process.wait(command.DEADLINE_S)
    entries = [json.loads(line) for line in program.said.splitlines()]
    assert entries[-1]["message"] == "pod ml/train-0-x7k2p is run train-7"

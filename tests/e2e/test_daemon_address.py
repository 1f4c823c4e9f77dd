"""The daemon serves where it was asked to, or says who is there: scrapers look nowhere else."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support import command

pytestmark = pytest.mark.e2e


def start(folder: Path, port: int, *prefix: str, sensor: str = "tdp") -> subprocess.Popen[str]:
    own = ["--socket", str(folder / "daemon.sock"), "--output", str(folder / "runs"), "--sensor", sensor]
    words = [*prefix, command.CARBONMON, "daemon", "--listen", f"127.0.0.1:{port}", *own]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(words, cwd=folder, env=command.environ(), stderr=log, text=True)


def has_said(folder: Path, text: str) -> bool:
    return text in (folder / "log").read_text()


@pytest.fixture
def taken() -> socket.socket:
    """A port that another program listens at."""
    return socket.create_server(("127.0.0.1", 0))


def test_a_taken_port_is_tried_again_and_its_holder_is_named(tmp_path: Path, taken: socket.socket):
    port = taken.getsockname()[1]
    with start(tmp_path, port) as daemon:
        try:
            command.wait_for(lambda: has_said(tmp_path, "127.0.0.1:"), "the first word")
            assert f"127.0.0.1:{port} is held by" in (tmp_path / "log").read_text()
            assert f"(process {os.getpid()})" in (tmp_path / "log").read_text()
            assert not has_said(tmp_path, "daemon: "), "it is ready where it was asked to be"
            taken.close()
            command.wait_for(lambda: has_said(tmp_path, f"daemon: http://127.0.0.1:{port}/metrics"), "it")
            assert "carbonmon_build_info" in command.get(f"http://127.0.0.1:{port}/metrics")
        finally:
            daemon.terminate()


def test_a_service_of_systemd_ends_so_that_systemd_starts_it_again(tmp_path: Path, taken: socket.socket):
    as_service = ["sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh"]
    with start(tmp_path, taken.getsockname()[1], *as_service) as daemon:
        assert daemon.wait(command.DEADLINE_S) == 2
    assert has_said(tmp_path, "is held by")
    taken.close()


ELSEWHERE = "192.0.2.1:9877"  # TEST-NET-1, RFC 5737: no machine's


@pytest.mark.parametrize("way", ["flag", "variable", "file"])
def test_a_daemon_at_an_address_of_another_machine_does_not_begin(tmp_path: Path, way: str):
    (tmp_path / "c.toml").write_text(f'listen = "{ELSEWHERE}"\n')
    named, environ, blamed = {
        "flag": (["--listen", ELSEWHERE], {}, "Error: cannot"),
        "variable": ([], {"CARBONMON_LISTEN": ELSEWHERE}, "Error: CARBONMON_LISTEN: cannot"),
        "file": (["--config", "c.toml"], {"CARBONMON_LISTEN": ""}, "Error: c.toml: listen: cannot"),
    }[way]
    own = ["--socket", str(tmp_path / "d.sock"), "--sensor", "tdp"]
    ended = command.run(["daemon", *named, *own], tmp_path, env=environ)
    assert ended.returncode == 2, ended.stderr
    assert f"{blamed} serve metrics at {ELSEWHERE!r}: this machine has no such address" in ended.stderr
    assert "Traceback" not in ended.stderr and "cannot start" not in ended.stderr


def test_a_daemon_without_the_folder_of_its_textfiles_does_not_begin(tmp_path: Path):
    own = ["--socket", str(tmp_path / "d.sock"), "--sensor", "tdp", "--listen", "127.0.0.1:0"]
    ended = command.run(["daemon", *own, "--exporter", f"textfile:{tmp_path}/no"], tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert f"Error: --exporter textfile:{tmp_path}/no: there is no such folder: make" in ended.stderr


def test_a_job_starts_where_its_metrics_cannot_be_and_each_trouble_is_told_once(tmp_path: Path):
    exporters = f"summary,prometheus,textfile:{tmp_path}/no"
    own = ["--sensor", "tdp", "--listen", ELSEWHERE, "--exporter", exporters, "--checkpoint", "0.2"]
    ended = command.run(["run", *own, "--", "sh", "-c", "sleep 1; exit 7"], tmp_path)
    assert ended.returncode == 7, ended.stderr
    assert command.summary(tmp_path)["state"] == "final"
    assert ended.stderr.count("this machine has no such address") == 1
    assert ended.stderr.count("there is no such folder") == 1
    assert "works again" not in ended.stderr


def test_a_second_daemon_says_so_before_it_opens_anything(tmp_path: Path):
    with start(tmp_path, 0) as first:
        try:
            command.wait_for(lambda: has_said(tmp_path, "daemon: http://"), "the first")
            with start(tmp_path, 0, sensor="replay:/nowhere") as second:
                assert second.wait(command.DEADLINE_S) == 2
            assert has_said(tmp_path, "another monitor listens at")
            assert not has_said(tmp_path, "/nowhere")
        finally:
            first.terminate()

"""One user's flood of runs at the socket of root's daemon: refused clearly, and no harm to anybody's job."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbonmon.service.socket.admission import RUNS_A_MINUTE
from tests.simulator import Package, Simulator
from tests.support import command, slurm
from tests.support.daemon import Daemon, daemon

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root's daemon takes runs of other users"),
]

FLOOD = """
import json, socket, sys, time
path, count, pause_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(path)
    lines = connection.makefile("rb")
    for number in range(count):
        message = {"v": 1, "id": number, "op": "register", "run_id": f"flood-{number}"}
        connection.sendall(json.dumps(message).encode() + b"\\n")
        print(json.loads(lines.readline()).get("error", ""), flush=True)
        time.sleep(pause_s)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def node(public: Path) -> Iterator[Daemon]:
    with Simulator(packages=[Package()]) as machine, daemon(machine, public) as running:
        yield running


def as_nobody(folder: Path, *words: str) -> subprocess.Popen[str]:
    home = folder / "nobody-s"
    home.mkdir(exist_ok=True)
    os.chown(home, slurm.NOBODY, slurm.NOBODY)
    own = {"HOME": str(home), "TMPDIR": str(home), "CARBONMON_SOCKET": str(folder / "daemon.sock")}
    return subprocess.Popen(
        words,
        cwd=home,
        env=command.environ(**own, CARBONMON_LISTEN="127.0.0.1:0"),
        user=slurm.NOBODY,
        group=slurm.NOBODY,
        extra_groups=[],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def flood(node: Daemon, count: int, pause_s: float = 0.0) -> subprocess.Popen[str]:
    """A process of nobody's that begins so many runs, and tells of each why it was refused."""
    words = ("/usr/bin/python3", "-c", FLOOD, str(node.socket), str(count), str(pause_s))
    return as_nobody(node.folder, *words)


def test_a_user_s_flood_of_runs_is_refused_and_root_s_are_not(node: Daemon):
    most, more = int(RUNS_A_MINUTE), 30
    said, errors = flood(node, most + more).communicate(timeout=command.DEADLINE_S)
    answers = said.splitlines()
    assert len(answers) == most + more, errors
    assert not any(answers[:most])
    refused = [answer for answer in answers if answer]
    assert refused, "the allowance grows by one in a second"
    assert all(
        answer.startswith(f"user {slurm.NOBODY} begins more than {most} runs a minute") for answer in refused
    )
    assert len(list(node.output.glob("flood-*"))) == len(answers) - len(refused)
    node.register("by-root")
    assert node.unregister("by-root")["state"] == "final"


def test_nobody_can_keep_a_job_from_being_metered_by_taking_its_run_s_id(node: Daemon):
    """The ids of the next jobs of a scheduler are known to everybody."""
    said, errors = flood(node, 1).communicate(timeout=command.DEADLINE_S)
    assert said == "\n", errors
    done = node.call("register", "--run-id", "flood-0", "--uid", "4711")
    assert (done.returncode, done.stdout) == (0, "flood-0-2\n"), done.stderr
    again = node.call("register", "--run-id", "flood-0", "--uid", "4711")
    assert again.returncode == 1
    assert "is registered already" in again.stderr
    assert node.unregister("flood-0-2")["run"]["id"] == "flood-0-2"
    assert node.summary("flood-0")["state"] == "running", "the other one goes on"


def test_a_run_that_the_daemon_refuses_is_measured_by_itself(node: Daemon):
    program = slurm.program(slurm.NOBODY)
    assert program is not None, "nobody must be able to read this checkout"
    flooding = flood(node, 10_000, 0.01)
    try:
        assert flooding.stdout is not None
        assert any(line.startswith("user") for line in flooding.stdout)
        job = as_nobody(node.folder, program, "run", "--run-id", "mine", "--", "sh", "-c", "exit 3")
        _, errors = job.communicate(timeout=command.DEADLINE_S)
    finally:
        flooding.kill()
        flooding.communicate()
    assert job.returncode == 3, errors
    assert "does not take this run: user" in errors
    assert (node.folder / "nobody-s/carbonmon-runs/mine/summary.json").exists(), errors

"""The job starts, whatever is short: processes, memory, inodes, a place to write. The limits are real."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator import can_wrap
from tests.support import command
from tests.support.limits import FIRST_UID, PIDS_CGROUP, as_user, ended, mounted, start

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user and to mount"),
]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may write into and reach."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cm-limits-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_near_the_limit_of_a_user_s_processes_the_job_starts(place: Path):
    """With 2 to 4 places the job takes ours; from 5 on it is metered, without threads of ours."""
    started = {}
    for most in range(2, 13):
        folder = place / str(most)
        folder.mkdir()
        folder.chmod(0o777)
        started[most] = start(folder, as_user(FIRST_UID + most, "prlimit", f"--nproc={most}"))
    for most, process in started.items():
        code, text = ended(process)
        assert code == 7, (most, text)
        assert ("unmetered" if most < 5 else "has no threads") in text, (most, text)
        assert len(text.splitlines()) == 1, (most, text)
        if most >= 5:
            assert command.summary(place / str(most))["run"]["exit_code"] == 7


@pytest.mark.skipif(not os.access(PIDS_CGROUP, os.W_OK), reason="no pids controller of cgroups v1 here")
@pytest.mark.parametrize("most", [3, 6])
def test_near_the_limit_of_a_cgroup_s_processes_the_job_starts(tmp_path: Path, most: int):
    cgroup = PIDS_CGROUP / f"carbonmon-test-{os.getpid()}-{most}"
    cgroup.mkdir()
    try:
        (cgroup / "pids.max").write_text(str(most))
        enter = ["sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', os.fspath(cgroup)]
        code, text = ended(start(tmp_path, enter))
        assert code == 7, text
    finally:
        cgroup.rmdir()


def test_with_little_room_for_data_the_job_starts_and_keeps_its_exit_code(place: Path):
    started = {}
    for mebibytes in (16, 40, 128):
        (place / str(mebibytes)).mkdir()
        started[mebibytes] = start(place / str(mebibytes), ["prlimit", f"--data={mebibytes << 20}"])
    for mebibytes, process in started.items():
        code, text = ended(process)
        assert code == 7, (mebibytes, text)
        assert "Traceback" not in text
        assert ("has no threads" in text) == (mebibytes < 128), (mebibytes, text)
        assert command.summary(place / str(mebibytes))["run"]["exit_code"] == 7


@pytest.mark.parametrize("options", [(), ("--output", "runs", "--targets", "targets")])
def test_where_the_working_folder_was_removed_the_job_starts(place: Path, options: tuple[str, ...]):
    """As of a job on a scratch disk that was cleaned; the run is kept where nobody's folder is needed."""
    enter = ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh"]
    code, text = ended(start(place, enter, *options))
    assert code == 7, text
    assert "cannot be written (No such file or directory)" in text
    assert len(text.splitlines()) <= 3, text
    (summary,) = place.glob("carbonmon-*/runs/*/summary.json")
    assert json.loads(summary.read_text())["run"]["exit_code"] == 7


def test_with_little_memory_the_job_starts_and_keeps_its_exit_code(place: Path):
    started = {}
    for mebibytes in (28, 31, 40, 56, 72, 128):
        (place / str(mebibytes)).mkdir()
        started[mebibytes] = start(place / str(mebibytes), ["prlimit", f"--as={mebibytes << 20}"])
    for mebibytes, process in started.items():
        code, text = ended(process)
        assert code == 7, (mebibytes, text)
        if mebibytes >= 128:
            assert text == "", "the floor of a node without GPUs"
            assert command.summary(place / str(mebibytes))["run"]["exit_code"] == 7


@pytest.mark.skipif(not can_wrap(), reason="no mount namespaces here")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param("nr_inodes=1", id="no inodes"),
        pytest.param("nr_inodes=3", id="no inodes for the files"),
        pytest.param("ro", id="read-only"),
        pytest.param("size=4k,nr_inodes=2", id="full"),
    ],
)
@pytest.mark.parametrize("output", [[], ["--output", "/mnt/mine/runs"]], ids=["", "output"])
def test_on_a_disk_that_takes_nothing_the_job_starts(place: Path, options: str, output: list[str]):
    with mounted(options) as prefix:
        code, text = ended(start(place, prefix, *output))
    assert code == 7, text
    assert "Traceback" not in text


@pytest.mark.parametrize("output", [[], ["--output", "mine/runs"]], ids=["", "output"])
def test_in_a_folder_of_somebody_else_the_job_starts_and_the_run_is_kept_elsewhere(
    place: Path, output: list[str]
):
    (place / "foreign").mkdir(mode=0o755)
    enter = ["sh", "-c", 'cd foreign; exec "$@"', "sh"]
    code, text = ended(start(place, as_user(FIRST_UID, *enter), *output))
    assert code == 7, text
    assert f"this run is kept in {place}/carbonmon-{FIRST_UID}/runs/" in text
    assert list((place / f"carbonmon-{FIRST_UID}/runs").glob("*/summary.json"))

"""The ranks that have not come by themselves, in a /proc of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from carbonmon.service.other_ranks import other_ranks

LAUNCH = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "WORLD_SIZE": "3", "GROUP_WORLD_SIZE": "1"}
KEY = "torchrun-127.0.0.1-29500"


def rank(number: int, **more: str) -> dict[str, str]:
    return LAUNCH | {"RANK": f"{number}", "LOCAL_RANK": f"{number}"} | more


class Proc:
    """Processes as folders: each with its parent, its environment and its children."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, pid: int, ppid: int, environ: Mapping[str, str] | None) -> None:
        (self.root / str(pid) / "task" / str(pid)).mkdir(parents=True)
        (self.root / str(pid) / "task" / str(pid) / "children").touch()
        (self.root / str(pid) / "stat").write_text(f"{pid} (a) b) S {ppid} 1 1")
        if environ is not None:  # else we may not read it
            text = "".join(f"{key}={value}\0" for key, value in environ.items())
            (self.root / str(pid) / "environ").write_text(text)
        above = self.root / str(ppid) / "task" / str(ppid) / "children"
        if above.exists():
            above.write_text(f"{above.read_text()}{pid} ")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    made = Proc(tmp_path)
    made.add(10, 1, {"PATH": "/bin"})
    return made


def found(proc: Proc, pid: int, number: int | None = 0) -> dict[int, int | None]:
    return {other.pid: other.rank.rank for other in other_ranks(pid, KEY, number, proc.root)}


def test_the_other_children_of_the_launcher_are_the_other_ranks(proc: Proc):
    for number in range(3):
        proc.add(20 + number, 10, rank(number))
    proc.add(30, 10, {"PATH": "/bin"})
    proc.add(31, 10, rank(1, MASTER_PORT="1"))  # another job of the same shell
    assert found(proc, 20) == {21: 1, 22: 2}


def test_a_shell_between_the_launcher_and_a_rank_is_that_rank_with_all_below_it(proc: Proc):
    proc.add(20, 10, rank(0))  # the shell
    proc.add(21, 20, rank(0))  # the training
    proc.add(30, 10, rank(1))
    proc.add(31, 30, rank(1))
    assert found(proc, 21) == {30: 1}


def test_a_program_that_starts_its_own_ranks_has_them_as_children(proc: Proc):
    ddp = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "WORLD_SIZE": "2"}
    proc.add(20, 10, {"PATH": "/bin"})
    proc.add(21, 20, ddp | {"LOCAL_RANK": "1"})
    others = other_ranks(20, "ddp-127.0.0.1-29500", 0, proc.root)
    assert [(other.pid, other.rank.rank) for other in others] == [(21, 1)]


def test_mpi_ranks_without_a_job_s_name_share_their_parent(proc: Proc):
    proc.add(20, 10, {"PMI_RANK": "0", "PMI_SIZE": "2"})
    proc.add(21, 10, {"PMI_RANK": "1", "PMI_SIZE": "2"})
    assert [other.pid for other in other_ranks(20, "mpi-10", 0, proc.root)] == [21]


def test_what_may_not_be_read_or_is_gone_is_not_found(proc: Proc):
    proc.add(20, 10, rank(0))
    proc.add(21, 10, None)
    (proc.root / "10" / "task" / "10" / "children").write_text("20 21 99 ")
    assert found(proc, 20) == {}
    assert found(proc, 98) == {}

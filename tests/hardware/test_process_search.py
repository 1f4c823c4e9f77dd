"""How new processes of runs are found: by the numbers given out, by a listing, or not looked for at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbonmon.hardware.workload import tree
from carbonmon.hardware.workload.proc import Processes
from carbonmon.hardware.workload.processes import ProcessTable
from tests.support.kernel import CALL_S, INIT, FakeKernel, begin_others, following


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


def looked_at(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What of /proc is read from now on: `names` for a listing, else the pids whose stat was asked for."""
    seen: list[str] = []
    names, stat = kernel.names, kernel.stat
    monkeypatch.setattr(kernel, "names", lambda: seen.append("names") or names())
    monkeypatch.setattr(kernel, "stat", lambda pid: seen.append(str(pid)) or stat(pid))
    return seen


def test_where_our_own_process_begins_the_job_no_other_process_is_read(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
):
    """A large node has thousands of them: to read them all took a tenth of a second of each start."""
    kernel.own_pid = wrapper = kernel.fork(INIT)
    for _ in range(100):
        kernel.fork(INIT)
    seen = looked_at(kernel, monkeypatch)
    table = ProcessTable(Path("/nowhere"), processes=kernel)
    table.add("run", [], [wrapper])
    job = kernel.fork(wrapper)
    kernel.work(kernel.fork(job), 2.0)
    assert table.scan() == {"run": pytest.approx(2.0)}
    assert "names" not in seen
    assert set(seen) <= {str(wrapper), str(job), str(job + 1)}
    assert table.count("run") == 2


@pytest.mark.parametrize("why", ["has a child", "children are not told"])
def test_else_all_are_read(why: str, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch):
    wrapper = kernel.fork(INIT)
    kernel.own_pid = wrapper
    child = kernel.fork(wrapper) if why == "has a child" else None
    if why == "children are not told":
        monkeypatch.setattr(kernel, "children", lambda pid: None)
    seen = looked_at(kernel, monkeypatch)
    table = ProcessTable(Path("/nowhere"), processes=kernel)
    table.add("run", [], [wrapper])
    assert "names" in seen
    assert child is None or table.owner_of(child) == "run"


@pytest.mark.parametrize("how", ["listing", "another root"])
def test_of_an_orphan_that_was_not_looked_for_only_what_it_does_from_then_on_is_the_run_s(
    how: str, kernel: FakeKernel
):
    kernel.own_pid = wrapper = kernel.fork(INIT)
    kernel.setsid(wrapper)
    orphan = begin_others(kernel, wrapper)
    table = ProcessTable(Path("/nowhere"), processes=kernel)
    table.add("run", [], [wrapper])
    job = kernel.fork(wrapper)
    assert table.scan() == {"run": pytest.approx(0.0, abs=1e-6)}
    assert table.owner_of(orphan) is None
    if how == "listing":
        for _ in range(tree.LISTING_PERIOD):
            kernel.fork(job)
            assert table.scan() == {"run": pytest.approx(0.0, abs=1e-6)}
    else:
        parent = kernel.fork(INIT)
        kernel.fork(parent)
        table.add("run", [parent])
        assert table.scan() == {"run": pytest.approx(0.0, abs=1e-6)}
    assert table.owner_of(orphan) == "run"
    kernel.work(orphan, 3.0)
    assert table.scan() == {"run": pytest.approx(3.0)}


def test_the_children_of_a_process_whose_thread_ends_meanwhile_are_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The kernel gives them to another thread, whose own may have been read before."""
    for thread, children in (("7", ""), ("8", "9 ")):
        (tmp_path / "7" / "task" / thread).mkdir(parents=True)
        (tmp_path / "7" / "task" / thread / "children").write_text(children)
    processes = Processes(tmp_path)
    assert processes.children(7) == [9]
    (tmp_path / "7" / "task" / "8" / "children").write_text("")
    threads = iter((["7", "8"], ["7"]))
    monkeypatch.setattr("os.listdir", lambda path: next(threads))
    assert processes.children(7) is None


def test_nobody_s_pid_that_a_member_uses_again_is_found_within_so_many_scans(kernel: FakeKernel):
    kernel.last_pid = 3
    root = kernel.fork(INIT)
    foreign = kernel.fork(INIT)
    table = following(kernel, run=root)
    table.scan()
    kernel.exit(foreign)
    child = kernel.fork(root)
    assert child == foreign
    kernel.work(child, 2.0)
    credited_s = 0.0
    for _ in range(tree.FOREIGN_PARTS + 1):
        kernel.births += 1
        credited_s += table.scan()["run"]
    assert credited_s == pytest.approx(2.0)


def test_while_nothing_is_born_nothing_is_listed_and_no_stat_is_read(kernel: FakeKernel):
    root = kernel.fork(INIT)
    children = [kernel.fork(root) for _ in range(3)]
    table = following(kernel, run=root)
    table.scan()
    looks: list[str] = []
    kernel.names = lambda: looks.append("names") or set()  # type: ignore[method-assign, func-returns-value]
    stat = kernel.stat
    kernel.stat = lambda pid: looks.append("stat") or stat(pid)  # type: ignore[method-assign, func-returns-value]
    for _ in range(3):
        for pid in children:
            kernel.work(pid, 1.0)
        assert table.scan()["run"] == pytest.approx(3.0)
    assert looks == []


def test_what_is_born_is_looked_at_alone_and_found_without_a_listing(kernel: FakeKernel):
    root = kernel.fork(INIT)
    for _ in range(50):
        kernel.fork(INIT)
    table = following(kernel, run=root)
    table.scan()
    listed: list[str] = []
    looked_at: list[int] = []
    kernel.names = lambda: listed.append("names") or set()  # type: ignore[method-assign, func-returns-value]
    stat = kernel.stat
    kernel.stat = lambda pid: looked_at.append(pid) or stat(pid)  # type: ignore[method-assign, func-returns-value]
    foreign, child = kernel.fork(INIT), kernel.fork(root)
    grandchild = kernel.fork(child)
    kernel.work(grandchild, 2.0)
    assert table.scan()["run"] == pytest.approx(2.0)
    assert table.members("run") == {root, child, grandchild}
    assert (listed, sorted(looked_at)) == ([], [foreign, child, grandchild])


def test_a_worker_that_lived_between_two_scans_is_counted_though_nothing_is_listed(kernel: FakeKernel):
    root = kernel.fork(INIT)
    table = following(kernel, run=root)
    table.scan()
    kernel.names = lambda: pytest.fail("listed")  # type: ignore[method-assign]
    for _ in range(3):
        worker = kernel.fork(root)
        kernel.work(worker, 1.5)
        kernel.exit(worker)
        kernel.wait(root, worker)
        kernel.fork(INIT)
        assert table.scan()["run"] == pytest.approx(1.5)


@pytest.mark.parametrize("others", [0, 1, 3 * tree.FEW])
def test_a_process_that_proc_shows_after_its_number_was_given_out_is_found_in_the_next_scan(
    kernel: FakeKernel, others: int
):
    """copy_process gives the number out first. Others may begin before it, nothing behind it."""
    root = kernel.fork(INIT)
    table = following(kernel, run=root)
    table.scan()
    for _ in range(others):
        kernel.fork(INIT)
    late = kernel.fork(root)
    process = kernel.table.pop(late)
    table.scan()
    kernel.table[late] = process
    kernel.work(late, 2.0)
    assert table.scan()["run"] == pytest.approx(2.0)
    assert late in table.members("run")


def test_while_no_member_runs_nothing_is_looked_at_and_then_nothing_of_it_is_lost(kernel: FakeKernel):
    root = kernel.fork(INIT)
    table = following(kernel, run=root)
    table.scan()
    looked_at: list[int] = []
    stat = kernel.stat
    kernel.stat = lambda pid: looked_at.append(pid) or stat(pid)  # type: ignore[method-assign, func-returns-value]
    shell = kernel.fork(INIT)
    foreign = [kernel.fork(shell) for _ in range(3)]
    for _ in range(3):
        assert table.scan()["run"] == 0.0
    assert not set(looked_at) & {shell, *foreign}
    child = kernel.fork(root)
    kernel.work(child, 2.0)
    assert table.scan()["run"] == pytest.approx(2.0)
    assert table.members("run") == {root, child}
    assert set(looked_at) >= {shell, *foreign}


def test_we_ourselves_run_at_each_look_and_that_is_no_reason_to_look_for_more_than_the_job(
    kernel: FakeKernel,
):
    own = kernel.own_pid = kernel.fork(INIT)
    table = ProcessTable(Path("/nowhere"), processes=kernel)
    table.add("run", [], [own])
    assert table.scan()["run"] == 0.0
    job = kernel.fork(own)
    for _ in range(2):
        kernel.work(own, 0.01)
        kernel.work(job, 2.0)
        assert table.scan()["run"] == pytest.approx(2.0)
    table.scan()
    looked_at: list[int] = []
    stat = kernel.stat
    kernel.stat = lambda pid: looked_at.append(pid) or stat(pid)  # type: ignore[method-assign, func-returns-value]
    for _ in range(3):
        foreign = kernel.fork(INIT)
        kernel.work(own, 0.01)
        assert table.scan()["run"] == 0.0
        assert foreign not in looked_at
    kernel.work(kernel.fork(job), 3.0)
    kernel.work(own, 0.01)
    assert table.scan()["run"] == pytest.approx(3.0)


def test_a_fork_that_the_parent_s_clock_tells_a_scan_late_is_counted(kernel: FakeKernel):
    """A thread that runs on a CPU has its time added at the kernel's next tick."""
    root = kernel.fork(INIT)
    table = following(kernel, run=root)
    table.scan()
    child = kernel.fork(root)
    kernel.work(child, 2.0)
    kernel.table[root].own_s -= CALL_S
    table.scan()
    kernel.work(root, CALL_S)
    assert table.scan()["run"] == pytest.approx(2.0)


def test_a_number_that_is_not_there_is_looked_at_once_more_and_no_more(kernel: FakeKernel):
    root = kernel.fork(INIT)
    table = following(kernel, run=root)
    table.scan()
    kernel.exit(kernel.fork(INIT))
    looked_at: list[int] = []
    stat = kernel.stat
    kernel.stat = lambda pid: looked_at.append(pid) or stat(pid)  # type: ignore[method-assign, func-returns-value]
    gone = kernel.newest
    for _ in range(4):
        kernel.work(root, 0.1)
        table.scan()
    assert looked_at.count(gone) == 2


def test_a_restored_process_with_a_number_out_of_turn_is_found_with_the_next_listing(kernel: FakeKernel):
    root = kernel.fork(INIT)
    table = following(kernel, run=root)
    newest, births = kernel.newest, kernel.births
    kernel.newest = 700
    restored = kernel.fork(root)
    kernel.newest, kernel.births = newest, births
    for _ in range(tree.LISTING_PERIOD):
        kernel.fork(INIT)
        kernel.work(root, 1.0)  # who has forked has run
        table.scan()
    assert restored in table.members("run")


def test_processes_of_nobody_that_come_and_stay_are_not_remembered_for_ever(kernel: FakeKernel):
    kernel.last_pid = 100_000
    root = kernel.fork(INIT)
    table = following(kernel, run=root)
    for _ in range(tree.LISTING_PERIOD * 2):
        born = [kernel.fork(INIT) for _ in range(tree.FEW // 2)]
        table.scan()
        for pid in born:
            kernel.exit(pid)
    remembered = table._tree._known.union(*table._tree._foreign)
    assert len(remembered) < 3 * tree.FEW


@pytest.mark.parametrize(
    ("before", "now", "numbers"),
    [(b"7", b"9", [8, 9]), (b"9", b"7", None), (b"x", b"7", None), (b"7", b"", None), (b"7", b"-8", None)],
)
def test_numbers_given_out_are_those_in_between_and_unknown_where_that_is_not_told(
    before: bytes, now: bytes, numbers: list[int] | None
):
    found = Processes(Path("/proc")).newcomers(before, now)
    assert (None if found is None else list(found)) == numbers

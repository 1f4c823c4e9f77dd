"""CPU time of process trees: real processes, and those of a kernel in memory where order matters."""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from carbonmon.hardware.workload import tree
from carbonmon.hardware.workload.proc import Processes, Stat, clock_of, parse_stat
from carbonmon.hardware.workload.processes import ProcessTable
from tests.support.kernel import CALL_S, INIT, FakeKernel, begin_others

PROC = Path("/proc")
PATIENCE_S = 20.0
BURN = "import time\nwhile time.process_time() < {}: pass"


def until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.005)


def waited_for_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def followed(exclude: frozenset[int] = frozenset()) -> ProcessTable:
    """A table of the real processes, closed at the end of the test."""
    _opened.append(ProcessTable(PROC, exclude=exclude))
    return _opened[-1]


_opened: list[ProcessTable] = []


@pytest.fixture(autouse=True)
def tables_are_closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def line(job: subprocess.Popen[str]) -> str:
    assert job.stdout is not None
    return job.stdout.readline().strip()


def go_on(job: subprocess.Popen[str]) -> None:
    assert job.stdin is not None
    job.stdin.write("\n")
    job.stdin.flush()


@pytest.fixture
def start() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    jobs: list[subprocess.Popen[str]] = []

    def begin(code: str) -> subprocess.Popen[str]:
        jobs.append(python(code))
        return jobs[-1]

    yield begin
    for job in jobs:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.communicate()


Start = Callable[[str], "subprocess.Popen[str]"]


# ---- real processes ----


def test_short_workers_between_two_scans_are_all_credited():
    table = followed()
    table.add("run", [], [os.getpid()])
    before_s = waited_for_s()
    burn = BURN.format(0.02)
    script = f"for j in $(seq 15); do for i in 1 2 3 4; do {sys.executable} -S -c '{burn}' & done; wait; done"
    job = subprocess.Popen(["sh", "-c", script])
    credited_s = 0.0
    while job.poll() is None:
        credited_s += table.scan()["run"]
        time.sleep(0.5)
    credited_s += table.scan()["run"]
    truth_s = waited_for_s() - before_s
    assert truth_s > 60 * 0.02
    assert credited_s == pytest.approx(truth_s, rel=0.01)


def test_what_a_job_used_before_it_is_followed_is_not_its_own(start: Start):
    job = start(
        f"{BURN.format(0.2)}\n"
        "import os, sys\n"
        "if not os.fork():\n"
        "    while time.process_time() < 0.2: pass\n"
        "    os._exit(0)\n"
        "os.wait()\nprint('up', flush=True)\nsys.stdin.readline()\n"
        "while time.process_time() < 0.3: pass\n"
        "print('done', flush=True)\nsys.stdin.readline()\n"
    )
    assert line(job) == "up"
    table = followed()
    table.add("run", [job.pid])
    assert table.scan()["run"] == pytest.approx(0.0, abs=0.02)
    go_on(job)
    assert line(job) == "done"
    assert table.scan()["run"] == pytest.approx(0.1, abs=0.05)


def test_an_orphan_of_a_double_fork_stays_with_its_run_though_init_is_its_parent(start: Start):
    job = start(
        "import os, sys, time\n"
        "sys.stdin.readline()\n"
        "if not os.fork():\n"
        "    if not os.fork():\n"
        "        while time.process_time() < 0.1: pass\n"
        "        print(os.getpid(), flush=True)\n"
        "        time.sleep(60)\n"
        "    os._exit(0)\n"
        "os.wait()\nprint(os.getpid(), flush=True)\nsys.stdin.readline()\n"
    )
    table = followed()
    table.add("run", [job.pid])
    go_on(job)  # what it uses before it is followed is not its run's, however late that is
    orphans = {int(line(job)), int(line(job))} - {job.pid}
    used_s = table.scan()["run"]
    assert orphans < table.members("run")
    assert used_s > 0.1
    assert table.count("run") == 2


def test_a_process_in_the_same_pipeline_as_a_root_is_not_of_its_run():
    # A shell with job control makes the first process of a pipeline the leader of its group.
    shell = subprocess.Popen(
        ["bash", "-c", "set -m; sleep 60 | sleep 61 & jobs -p; wait"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        leader = int(line(shell))
        processes = Processes(PROC)

        def group() -> set[int]:
            stats = {int(name): processes.stat(int(name)) for name in processes.names() if name.isdigit()}
            return {pid for pid, stat in stats.items() if stat is not None and stat.pgrp == leader}

        until(lambda: len(group()) == 2)
        members = group()
        table = followed()
        table.add("run", [leader])
        table.scan()
        assert table.members("run") == {leader}
    finally:
        os.killpg(leader, signal.SIGKILL)
        shell.kill()
        shell.communicate()
    assert members > {leader}


def test_children_of_a_parent_that_ignores_their_end_are_credited_as_last_seen(start: Start):
    job = start(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "sys.stdin.readline()\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    while time.process_time() < 0.1: pass\n"
        "    print('used', flush=True)\n"
        "    time.sleep(60)\n"
        "sys.stdin.readline()\n"
        "os.kill(pid, 9)\n"
        "while os.path.exists(f'/proc/{pid}'): time.sleep(0.001)\n"
        "print('gone', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    table = followed()
    table.add("run", [job.pid])
    go_on(job)  # what it uses before it is followed is not its run's, however late that is
    assert line(job) == "used"
    credited_s = table.scan()["run"]
    assert credited_s > 0.1
    go_on(job)
    assert line(job) == "gone"
    credited_s += table.scan()["run"]
    assert credited_s < 0.3
    assert table.count("run") == 1


def test_a_process_that_ended_but_was_not_waited_for_does_not_live(start: Start):
    job = start(
        "import os, sys\n"
        "if not os.fork(): os._exit(0)\n"
        "os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)\nprint('zombie', flush=True)\nsys.stdin.readline()\n"
    )
    assert line(job) == "zombie"
    table = followed()
    table.add("run", [job.pid])
    table.scan()
    assert (table.count("run"), len(table.members("run"))) == (1, 2)


def test_a_job_that_vanished_leaves_nothing_and_raises_nothing(start: Start):
    job = start("import sys; sys.stdin.readline()")
    table = followed()
    table.add("run", [job.pid])
    assert (table.owner_of(job.pid), table.count("run")) == ("run", 1)
    job.kill()
    job.communicate()
    table.scan()
    assert (table.owner_of(job.pid), table.count("run")) == (None, 0)
    table.add("late", [job.pid])
    assert table.scan() == {"run": 0.0, "late": 0.0}


def test_the_monitor_itself_and_what_it_starts_is_never_a_member(start: Start):
    helper = start("import sys; sys.stdin.readline()")
    table = followed(exclude=frozenset((os.getpid(),)))
    table.add("run", [os.getppid()])
    table.scan()
    assert table.owner_of(os.getppid()) == "run"
    assert table.owner_of(os.getpid()) is None
    assert table.owner_of(helper.pid) is None
    table.add("own", [], [os.getpid()])
    assert table.owner_of(helper.pid) == "own"


# ---- a kernel in memory ----


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


def following(kernel: FakeKernel, **runs: int) -> ProcessTable:
    table = ProcessTable(Path("/nowhere"), processes=kernel)
    for run_id, pid in runs.items():
        table.add(run_id, [pid])
    return table


def test_the_nearest_root_decides_also_for_what_is_born_later(kernel: FakeKernel):
    outer = kernel.fork(INIT)
    inner = kernel.fork(kernel.fork(outer))
    leaf = kernel.fork(inner)
    kernel.work(leaf, 5.0)
    table = following(kernel, a=outer)
    kernel.work(leaf, 1.0)
    table.add("b", [inner])
    kernel.work(kernel.fork(leaf), 2.0)
    kernel.work(outer, 4.0)
    used_s = table.scan()
    assert (used_s["a"], used_s["b"]) == (pytest.approx(5.0), pytest.approx(2.0))
    assert (table.owner_of(leaf), table.count("a"), table.count("b")) == ("b", 2, 3)


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


def test_children_are_those_that_the_kernel_tells(start: Start):
    processes = Processes(PROC)
    before = set(processes.children(os.getpid()) or ())
    child = start("import sys; sys.stdin.readline()")
    assert set(processes.children(os.getpid()) or ()) - before == {child.pid}
    assert list(processes.children(child.pid) or ()) == []
    assert processes.children(2**30) is None
    stat = processes.stat(child.pid)
    assert stat is not None
    assert stat.start <= processes.now_ticks()


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


def test_the_life_of_an_inner_run_is_not_the_outer_one_s_when_its_root_is_waited_for(kernel: FakeKernel):
    outer = kernel.fork(INIT)
    wrapper = kernel.fork(outer)
    table = following(kernel, a=outer)
    table.add("b", [], [wrapper])
    job = kernel.fork(wrapper)
    kernel.work(job, 7.0)
    kernel.work(wrapper, 0.5)
    kernel.exit(job)
    kernel.wait(wrapper, job)
    used_s = table.scan()
    assert (used_s["a"], used_s["b"]) == (pytest.approx(0.0, abs=1e-6), pytest.approx(7.0))
    table.remove("b")
    kernel.exit(wrapper)
    kernel.wait(outer, wrapper)
    assert table.scan() == {"a": pytest.approx(0.0, abs=1e-6)}


def test_a_job_whose_inner_wrapper_ended_first_is_the_outer_subreaper_s_but_not_new_to_it(kernel: FakeKernel):
    outer = kernel.fork(INIT)
    kernel.table[outer].subreaper = True
    inner = kernel.fork(outer)
    job = kernel.fork(inner)
    table = ProcessTable(Path("/nowhere"), processes=kernel)
    table.add("a", [], [outer])
    table.add("b", [], [inner])
    kernel.work(job, 3.0)
    assert table.scan()["b"] == pytest.approx(3.0)
    kernel.exit(inner)
    kernel.exit(job)
    kernel.wait(outer, job)
    used_s = table.scan()
    assert sum(used_s.values()) == pytest.approx(0.0, abs=1e-6)


def test_a_second_root_inside_a_run_changes_nothing(kernel: FakeKernel):
    root = kernel.fork(INIT)
    child = kernel.fork(root)
    table = following(kernel, run=root)
    kernel.work(child, 1.0)
    table.add("run", [child])
    assert table.scan()["run"] == pytest.approx(1.0)


def test_a_pid_that_was_used_again_is_another_process(kernel: FakeKernel):
    kernel.last_pid = 3
    root = kernel.fork(INIT)
    child = kernel.fork(root)
    kernel.work(child, 5.0)
    table = following(kernel, run=root)
    kernel.exit(child)
    kernel.wait(root, child)
    kernel.births += 3
    again = kernel.fork(root)
    assert again == child
    kernel.work(again, 9.0)
    credited_s = table.scan()["run"] + table.scan()["run"]
    assert credited_s == pytest.approx(9.0)


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


def test_a_child_whose_new_parent_ended_amid_the_scan_is_the_run_s_by_its_session(kernel: FakeKernel):
    root = kernel.fork(INIT)
    kernel.setsid(root)
    table = following(kernel, run=root)
    table.scan()
    parent = kernel.fork(root)
    child = kernel.fork(parent)
    kernel.work(child, 1.0)
    read: list[int] = []
    stat = kernel.stat

    def end_parent(pid: int) -> Stat | None:
        found = stat(pid)
        if pid == child and not read:  # it was read: now its parent goes
            read.append(pid)
            kernel.exit(parent)
            kernel.wait(root, parent)
        return None if pid == parent else found

    kernel.stat = end_parent  # type: ignore[method-assign]
    assert table.scan()["run"] + table.scan()["run"] == pytest.approx(1.0)
    assert child in table.members("run")


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
    found = Processes(PROC).newcomers(before, now)
    assert (None if found is None else list(found)) == numbers


def test_a_thread_s_number_is_no_process_of_a_run():
    begun, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (begun.set(), over.wait(PATIENCE_S)))
    table = followed()
    table.add("run", [os.getpid()])
    table.scan()
    thread.start()
    assert begun.wait(PATIENCE_S)
    assert thread.native_id is not None
    stat, own = table.stat(thread.native_id), table.stat(os.getpid())
    assert stat is not None
    assert own is not None
    table.scan()
    over.set()
    thread.join()
    assert (stat.is_thread, own.is_thread) == (True, False)
    assert thread.native_id not in table.members("run")
    assert os.getpid() in table.members("run")


def test_more_processes_than_can_be_followed_are_left_out_with_one_warning(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(tree, "MAX_PROCESSES", 3)
    root = kernel.fork(INIT)
    table = following(kernel, run=root)
    children = [kernel.fork(root) for _ in range(5)]
    with caplog.at_level(logging.WARNING):
        table.scan()
        kernel.fork(root)
        table.scan()
    assert table.count("run") == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    left_out = next(pid for pid in children if table.owner_of(pid) is None)
    kernel.work(left_out, 4.0)
    kernel.exit(left_out)
    kernel.wait(root, left_out)
    kernel.fork(INIT)  # its parent's times are read when something is born
    assert table.scan()["run"] == pytest.approx(4.0), "it is credited when it is waited for"


# ---- /proc elsewhere ----


def stat_text(pid: int, ppid: int, ticks: int, start: int, name: str = "job") -> str:
    before = f"{pid} ({name}) S {ppid} {ppid} {ppid} 0 -1 0 0 0 0 0"
    return f"{before} {ticks} {ticks} 5 6 20 0 1 0 {start} 0 0\n"


def test_a_command_s_name_may_hold_spaces_and_parentheses():
    stat = parse_stat(stat_text(7, 3, 100, 55, name="a) R (b) 1 ((").encode())
    ticks = os.sysconf("SC_CLK_TCK")
    assert (stat.ppid, stat.own_s, stat.reaped_s, stat.start) == (3, 200 / ticks, 11 / ticks, 55)
    assert not stat.ended


def test_another_namespace_s_proc_is_read_by_stat_alone(tmp_path: Path):
    def write(pid: int, ppid: int, ticks: int, start: int) -> None:
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        (tmp_path / str(pid) / "stat").write_text(stat_text(pid, ppid, ticks, start))

    tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
    write(40, 1, 100, 1000)
    write(41, 40, 100, 1001)
    (tmp_path / "42").mkdir()  # vanished between the listing and the look
    table = ProcessTable(tmp_path)
    table.add("run", [40])
    assert table.members("run") == {40, 41}
    assert table.scan()["run"] == 0.0
    write(41, 40, 150, 1001)
    assert table.scan()["run"] == pytest.approx(100 * tick_s)
    write(41, 40, 500, 2000)  # the pid was used again, by a process with more time than the first
    credited_s = table.scan()["run"] + table.scan()["run"]
    assert credited_s == pytest.approx((1000 + 11) * tick_s)
    table.close()


def test_without_a_list_of_processes_the_known_ones_are_still_followed(
    kernel: FakeKernel, caplog: pytest.LogCaptureFixture
):
    root = kernel.fork(INIT)
    kernel.fork(root)  # so that all processes are looked at
    table = following(kernel, run=root)

    def refuse() -> set[str]:
        raise PermissionError("no")

    kernel.names = refuse  # type: ignore[method-assign]
    kernel.work(root, 1.0)
    kernel.fork(root)
    assert table.scan()["run"] == pytest.approx(1.0)
    kernel.fork(root)
    table.scan()
    assert len(caplog.records) == 1


def test_a_clock_is_of_the_process_whose_pid_it_is_made_from():
    assert time.clock_gettime(clock_of(os.getpid())) == pytest.approx(time.process_time(), abs=0.05)
    with pytest.raises(OSError):
        Processes(PROC).own_s(clock_of(2**22))

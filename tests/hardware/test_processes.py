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
from tests.support.kernel import INIT, FakeKernel, following

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


# ---- a kernel in memory ----


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


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

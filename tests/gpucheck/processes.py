"""Group 4: whose process is on the GPU, how busy it keeps it, and the share that carbonmon gives it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.gpucheck.figures import Book, percent_off
from tests.gpucheck.plan import Plan
from tests.gpucheck.subject import ROOT, Subject, TwoLoads, carbonmon, python_environ

PATIENCE_S = 30.0
RUNS = ("first", "second")
NVML_SOURCE = "nvml.h: pids of compute processes, SM utilisation of each since a time"
SHARE_SOURCE = "docs/use/attribution.md: several holders share by SM utilisation of their processes"
CONSERVATION = "own promise: the parts add up to what was drawn"
NO_ENERGY = "nothing was charged to the two"
CONTAINER_SOURCE = "NVML lists pids of the host's namespace; docs/use/attribution.md says what is done then"


def measure(subject: Subject, book: Book, plan: Plan) -> None:
    book.group = "processes and shares"
    pair = subject.two_loads()
    if pair is None:
        book.missing("two processes on the GPU", "no load for the GPU")
        return
    try:
        time.sleep(0.1 if subject.simulated else 1.5)  # until NVML has seen both work
        _listed(subject, book, pair)
        sm_percent = _share(subject, book, plan, pair)
        _container(subject, book, pair)
    finally:
        pair.close()
    if sm_percent:
        total = sum(sm_percent.values())
        book.between(
            "SM utilisation of both together", total, 10.0, 105.0, "%", NVML_SOURCE, "mean of each, added"
        )


def _listed(subject: Subject, book: Book, pair: TwoLoads) -> None:
    nvml = subject.nvml
    try:
        pids = {process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses_v3(subject.handle)}
    except nvml.NVMLError as error:
        book.missing("processes on the GPU", str(error))
        return
    ours = set(pair.pids)
    book.holds(
        "our two processes in NVML's list",
        f"{len(ours & pids)} of 2 by their own pids, {len(pids - ours)} others",
        ours <= pids,
        "2 of 2",
        NVML_SOURCE,
        "fewer where this is a PID namespace of its own, as in a container",
    )
    seen = sum(Path(f"/proc/{pid}").exists() for pid in pids)
    book.note("listed pids that this /proc shows", f"{seen} of {len(pids)}")


def sm_utilization(subject: Subject, since_us: int) -> tuple[dict[int, list[int]], int]:
    """SM utilisation (%) by pid of the samples after a time, and the newest sample's time (Unix, µs)."""
    nvml = subject.nvml
    try:
        samples = nvml.nvmlDeviceGetProcessUtilization(subject.handle, since_us)
    except nvml.NVMLError:
        return {}, since_us
    found: dict[int, list[int]] = {}
    for sample in samples:
        if sample.smUtil <= 100:  # drivers were seen to report garbage for processes that end
            found.setdefault(sample.pid, []).append(sample.smUtil)
    return found, max((sample.timeStamp for sample in samples), default=since_us)


def _share(subject: Subject, book: Book, plan: Plan, pair: TwoLoads) -> dict[int, float]:
    """What a daemon charges to a run for each of the two, against the bare SM utilisation meanwhile."""
    found: dict[int, list[int]] = {}
    with _daemon(subject) as (socket, url):
        if url is None:
            book.missing("share of each process", "the daemon did not start")
            return {}
        for name, pid in zip(RUNS, pair.pids, strict=True):
            _call(subject, "register", "--socket", socket, "--run-id", name, "--pid", f"{pid}")
        before_j = charged_j(url, subject.uuid)
        deadline_s = time.monotonic() + PATIENCE_S
        while not all(before_j.get(name) for name in RUNS) and time.monotonic() < deadline_s:
            time.sleep(0.2)  # until the daemon has seen both at work
            before_j = charged_j(url, subject.uuid)
        _, since_us = sm_utilization(subject, 0)
        end_s = time.monotonic() + plan.share_s
        while time.monotonic() < end_s:
            time.sleep(0.25)
            fresh, since_us = sm_utilization(subject, since_us)
            for pid, percents in fresh.items():
                found.setdefault(pid, []).extend(percents)
        after_j = charged_j(url, subject.uuid)
        for name in RUNS:
            _call(subject, "unregister", "--socket", socket, name)
    means = {pid: sum(found[pid]) / len(found[pid]) for pid in pair.pids if found.get(pid)}
    for place, pid in zip(RUNS, pair.pids, strict=True):
        book.between(f"SM utilisation of the {place}", means.get(pid), 1.0, 100.0, "%", NVML_SOURCE)
    joules = {key: after_j[key] - before_j.get(key, 0.0) for key in after_j}
    _shares(book, joules, [means.get(pid) for pid in pair.pids])
    return means


def charged_j(url: str, uuid: str) -> dict[str, float]:
    """Joules of this GPU from a scrape: by run id, and "" for the whole GPU."""
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = re.match(r"carbonmon_(run|device)_energy_joules_total(\{.*\}) (\S+)", line)
        if match and uuid in match[2]:
            run_id = re.search(r'run_id="([^"]*)"', match[2])
            key = run_id[1] if run_id is not None else ""
            found[key] = found.get(key, 0.0) + float(match[3])
    return found


def _shares(book: Book, joules: dict[str, float], means: list[float | None]) -> None:
    first_j, second_j = (joules.get(name, 0.0) for name in RUNS)
    total_j = first_j + second_j
    note = f"{first_j:.0f} and {second_j:.0f} J"
    share = 100.0 * first_j / total_j if total_j else None
    if means[0] is None or means[1] is None or means[0] + means[1] == 0.0:
        book.note(
            "share of the first", share, "%", f"{note}; without SM utilisation it is split equally", NO_ENERGY
        )
    else:
        wanted = 100.0 * means[0] / (means[0] + means[1])
        book.between(
            "share of the first", share, wanted - 8.0, wanted + 8.0, "%", SHARE_SOURCE, note, NO_ENERGY
        )
    off = percent_off(total_j, joules.get("")) if total_j else None
    book.between("both runs against all that the GPU drew", off, -0.5, 0.5, "%", CONSERVATION, why=NO_ENERGY)


@contextmanager
def _daemon(subject: Subject) -> Iterator[tuple[str, str | None]]:
    """A daemon of our own for the time of the block: its socket and its /metrics, None without it."""
    with tempfile.TemporaryDirectory(prefix="carbonmon-gpu-check-") as folder:
        socket, log = Path(folder) / "daemon.sock", Path(folder) / "log"
        arguments = ("daemon", "--socket", str(socket), "--output", "runs", "--sensor", "nvml")
        fresh = ("--checkpoint", "0.2")  # the largest age of /metrics
        with log.open("w") as file:
            process = subprocess.Popen(
                carbonmon(*arguments, *fresh),
                cwd=folder,
                env=python_environ(subject.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        try:
            url, end_s = None, time.monotonic() + PATIENCE_S
            while url is None and process.poll() is None and time.monotonic() < end_s:
                time.sleep(0.02)
                url = re.search(r"daemon: (http://\S+/metrics)", log.read_text())
            yield str(socket), None if url is None else url[1]
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _call(subject: Subject, *arguments: str) -> None:
    subprocess.run(
        carbonmon(*arguments),
        cwd=ROOT,
        env=python_environ(subject.environ),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )


LOOK = """
import json, os, pynvml, sys
from pathlib import Path
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByUUID(sys.argv[1])
pids = [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)]
print(json.dumps([os.getpid(), pids, [pid for pid in pids if Path(f"/proc/{pid}").exists()]]))
"""


def _container(subject: Subject, book: Book, pair: TwoLoads) -> None:
    """The same questions from a PID namespace of its own, as in a container without the host's /proc."""
    wrap = _unshare()
    if wrap is None:
        book.missing("from a PID namespace of its own", "unshare is not allowed here")
        return
    with tempfile.TemporaryDirectory(prefix="carbonmon-gpu-check-") as folder:
        environ = python_environ(subject.environ)
        for allocation in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
            environ.pop(allocation, None)  # who has one need not be told apart

        def inside(*command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*wrap, *command],
                cwd=folder,
                env=environ,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )

        looked = inside(sys.executable, "-c", LOOK, subject.uuid)
        if looked.returncode:
            said = looked.stderr.strip().splitlines()[-1:]
            book.missing("from a PID namespace of its own", f"NVML does not answer there: {said}")
            return
        _, pids, visible = json.loads(looked.stdout)
        book.holds(
            "a container: NVML's pids",
            f"{len(set(pids) & set(pair.pids))} of ours by the host's pids, {len(visible)} in its own /proc",
            set(pair.pids) <= set(pids) and not set(visible) & set(pair.pids),
            "2 of ours, 0 in its own /proc",
            CONTAINER_SOURCE,
        )
        own = ("--own-monitor", "--sensor", "nvml", "--output", "runs")
        done = inside(*carbonmon("run", *own, "--", "sleep", "0.3"))
        paths = list(Path(folder).glob("runs/*/summary.json"))
        summary = json.loads(paths[0].read_text()) if paths else {"energy": {"devices": []}}
    notes = [device.get("share_note") for device in summary["energy"]["devices"]]
    book.holds(
        "a container: what carbonmon says of the run's share",
        f"{notes[0]}" if notes else f"nothing; exit code {done.returncode}",
        bool(notes) and any(words in f"{notes[0]}" for words in ("not visible", "unknown")),
        "that its processes are unknown",
        CONTAINER_SOURCE,
    )


def _unshare() -> list[str] | None:
    """The command that starts another in a PID namespace of its own; None where that is not allowed."""
    if shutil.which("unshare") is None:
        return None
    for user in ([], ["--map-root-user"]):
        command = ["unshare", *user, "--pid", "--fork", "--mount-proc"]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return None

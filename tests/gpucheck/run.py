"""Group 3, the real command: `carbonmon run` around a training loop, whole and by phase."""

from __future__ import annotations

import json
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.gpucheck import series, train
from tests.gpucheck.energy import COUNTER, NO_REFERENCE, REFRESH_S, SAMPLES, SENSOR, Bare
from tests.gpucheck.figures import Book, percent_off
from tests.gpucheck.plan import Plan
from tests.gpucheck.smi import Smi
from tests.gpucheck.subject import Subject, carbonmon, python_environ

POLL_S = 0.05
PATIENCE_S = 120.0
SUM_SOURCE = "own promise: phases of a run add up to its total (docs/use/attribution.md)"
PHASE_SOURCE = (
    "own promise: a second is split by the driver's samples; one refresh of the counter at both ends"
)


def measure(subject: Subject, book: Book, plan: Plan) -> None:
    book.group = "carbonmon run around a training loop"
    if subject.load is not None:
        subject.load.idle()
    wave = subject.load if subject.simulated else None
    if wave is not None:
        wave.square(0.9)  # the simulated training loop works on nothing
    lengths = list(plan.lengths_s) * plan.phases
    with tempfile.TemporaryDirectory(prefix="carbonmon-gpu-check-") as folder:
        bare = Bare()
        with Smi(subject) as smi:
            code, stdout, stderr = _watched(subject, bare, Path(folder), lengths)
        if wave is not None:
            wave.idle()
        summary = _summary(Path(folder) / "runs")
    if code or summary is None:
        book.holds("exit code", f"{code}", False, "0", "own promise: the job's own", stderr[-300:])
        return
    _figures(subject, book, summary, bare, smi)
    _phases(book, summary["energy"], json.loads(stdout), bare)


def _watched(subject: Subject, bare: Bare, folder: Path, lengths: list[float]) -> tuple[int, str, str]:
    """Run it to its end while the bare loop reads beside it: exit code, stdout, stderr."""
    job = [subject.training_python, "-m", train.__name__]
    job += [",".join(f"{length:g}" for length in lengths), *subject.training]
    options = ("--own-monitor", "--sensor", "nvml", "--gpus", subject.uuid, "--idle", "exclusive")
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        process = subprocess.Popen(
            carbonmon("run", *options, "--output", str(folder / "runs"), "--", *job),
            cwd=folder,
            env=python_environ(subject.environ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        end_s = subject.clock.now_s() + PATIENCE_S
        try:
            while process.poll() is None and subject.clock.now_s() < end_s:
                bare.read(subject)
                subject.clock.sleep(POLL_S)
        finally:
            process.terminate()  # it passes that on to the job; one that has ended does not mind
            process.wait()
        bare.read(subject)
        out.seek(0)
        err.seek(0)
        return process.returncode, out.read(), err.read()


def _summary(runs: Path) -> dict[str, Any] | None:
    """The summary of the only run there; None without one."""
    paths = list(runs.glob("*/summary.json"))
    document: dict[str, Any] | None = json.loads(paths[0].read_text()) if len(paths) == 1 else None
    return document


def unix_s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _figures(subject: Subject, book: Book, summary: dict[str, Any], bare: Bare, smi: Smi) -> None:
    start_s, end_s = (unix_s(summary["run"][key]) for key in ("started_at", "ended_at"))
    (device,) = summary["energy"]["devices"]
    total_j, seconds = device["energy_j"], end_s - start_s
    bound = 100.0 * 2 * REFRESH_S / seconds + 1.0
    book.holds("exit code", "0", True, "0", "own promise: the job's own")
    methods = ", ".join(sorted(name for name, joules in device["methods"].items() if joules))
    book.holds("method", methods, methods == "counter", "counter", "README: counter, Volta and later")
    book.note("energy of the run", total_j, "J", f"{seconds:.1f} s")
    reference = bare.between(start_s, end_s)
    for name, joules, percent, source, why in (
        ("the bare loop's counter", reference[COUNTER], bound, "own promise: as the counter", NO_REFERENCE),
        ("the bare loop's sample buffer", reference[SAMPLES], bound + 10.0, SENSOR, NO_REFERENCE),
        ("nvidia-smi", series.integral(smi.track, start_s, end_s), bound + 10.0, SENSOR, smi.why),
        ("what was drawn", subject.truth_j(start_s, end_s), bound, "the simulation's integral of power", ""),
    ):
        if joules is not None or name != "what was drawn":
            off = percent_off(total_j, joules)
            book.between(f"run against {name}", off, -percent, percent, "%", source, why=why or NO_REFERENCE)
    device_s = device.get("unobserved_s")
    book.between(
        "seconds without an observation", device_s, 0.0, 0.0, "s", "own promise: none while NVML answers"
    )


def _phases(book: Book, energy: dict[str, Any], phases: list[Any], bare: Bare) -> None:
    """The worst phase of each length against the bare loop's two ways."""
    off: dict[float, dict[str, list[float]]] = {}
    for name, seconds, begin_s, end_s in phases:
        found_j = energy["phases"].get(name, {}).get("energy_j")
        for way, joules in bare.between(begin_s, end_s).items():
            percent = percent_off(found_j, joules)
            if percent is not None:
                off.setdefault(seconds, {}).setdefault(way, []).append(percent)
    for seconds in sorted(off):
        for way in (COUNTER, SAMPLES):
            values = off.get(seconds, {}).get(way, [])
            worst = max(values, key=abs, default=None)
            bound = 100.0 * REFRESH_S / seconds + (5.0 if way == COUNTER else 10.0)
            book.between(
                f"phases of {seconds:g} s against the bare loop's {way}",
                worst,
                -bound,
                bound,
                "%",
                PHASE_SOURCE,
                f"the worst of {len(values)}",
                NO_REFERENCE,
            )
    sum_j = sum(phase["energy_j"] for phase in energy["phases"].values())
    book.between(
        "sum of the phases against the run", percent_off(sum_j, energy["total_j"]), -0.1, 0.1, "%", SUM_SOURCE
    )

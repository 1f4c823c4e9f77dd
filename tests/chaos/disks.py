"""Disks that are full, read-only, emptied or hanging: sampling goes on, and nothing stays missing."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import Enum
from io import RawIOBase
from pathlib import Path
from unittest import mock

from carbonmon.monitor.clock import SystemClock
from carbonmon.monitor.loop import SamplingLoop
from carbonmon.monitor.requests import RequestQueue
from carbonmon.monitor.run_account import RunAccount
from carbonmon.runs.checkpoint_slots import CheckpointSlots
from carbonmon.runs.reader import read_checkpoint, read_run
from carbonmon.runs.series import read_series
from tests.chaos.inprocess import (
    GPU,
    POWER_W,
    Lines,
    Source,
    checkpointed_samples,
    recorder_of,
    run_j,
    sampler_of,
)
from tests.chaos.monitors import Watched, ended_s, started_s, unobserved_s
from tests.chaos.scraper import HEADERS
from tests.chaos.table import Check, Row, energy_check
from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command
from tests.support.harness import INFO

INTERVAL_S, CHECKPOINT_S = 0.1, 0.2
OPTIONS = ("--sensor", "nvml,rapl", "--interval", str(INTERVAL_S), "--checkpoint", str(CHECKPOINT_S))
GPU_W, CPU_W = 300.0, 120.0
TRUST = 0.5
"""The part of the ticks that a busy machine must have made; it makes all of them when it is idle."""


def rows(short: bool, kills: int, chance: random.Random) -> Iterator[Row]:
    trouble_s = 0.5 if short else 3.0
    if os.geteuid() == 0:
        yield _real("the disk fills up", "a tmpfs of 64 KiB filled up", _fill, trouble_s, Then.IN_PLACE)
        full = ("the disk is full from the start", "a tmpfs of 64 KiB filled up before the start")
        yield _real(*full, _fill, trouble_s, Then.FAILS, is_first=True)
        yield _real("the disk turns read-only", "remounted read-only", _protect, trouble_s, Then.FAILS)
    else:
        sys.stderr.write("disks: a full and a read-only disk are left out, mounting them needs root\n")
    yield _real("the run's folder is removed", "rm -r of the folder", _remove, trouble_s, Then.WRITES_ANEW)
    yield _hangs(trouble_s)
    yield _fails(trouble_s)


Trouble = Callable[[Path, ExitStack], object]


class Then(Enum):
    """What the checkpoints do in trouble."""

    FAILS = "each is counted, the change of state is logged"
    IN_PLACE = "they take no room: they go on in the files that are there, the series' rows may fail"
    WRITES_ANEW = "the folder is made again"


def _fill(disk: Path, mend: ExitStack) -> None:
    path = disk / "filler"
    mend.callback(path.unlink)
    with path.open("wb", buffering=0) as filler:
        # What is being replaced meanwhile leaves the room of what it replaces.
        while _fill_up(filler):
            time.sleep(CHECKPOINT_S)


def _fill_up(filler: RawIOBase) -> int:
    """How many bytes there was still room for."""
    room = 0
    try:
        while True:
            room += filler.write(b"x" * 4096) or 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    return room


def _protect(disk: Path, mend: ExitStack) -> None:
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(disk)], check=True)
    mend.callback(subprocess.run, ["umount", str(disk)], check=True)


def _remove(disk: Path, mend: ExitStack) -> None:
    # A checkpoint may come between: then the folder is there again before it is gone.
    for folder in disk.iterdir():
        shutil.rmtree(folder, ignore_errors=True)


def _real(
    name: str, what: str, begin: Trouble, trouble_s: float, then: Then, *, is_first: bool = False
) -> Row:
    """Trouble for a while under a living monitor, then none; it `is_first` there, and then the monitor."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        disk = folder / "carbonmon-runs"
        disk.mkdir()
        if then is not Then.WRITES_ANEW:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=64k", "carbonmon-chaos", str(disk)], check=True
            )
            stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        packages = [Package(profile=Constant(CPU_W))]
        machine = stack.enter_context(Simulator(gpus=[Gpu(profile=Constant(GPU_W))], packages=packages))
        run = stack.enter_context(Watched(machine, folder, OPTIONS))
        samples = 0
        if not is_first:
            run.start()
            samples = run.wait_for_checkpoint(0)["samples"]
            # The second one replaces the other slot; from then on both are overwritten.
            samples = run.wait_for_checkpoint(samples)["samples"]
        begin_s = time.monotonic()
        with ExitStack() as mend:
            begin(disk, mend)
            if is_first:
                run.start(waits=False)
            if then is Then.FAILS:
                command.wait_for(lambda: "journal cannot write" in run.said(), "a failing checkpoint")
            elif then is Then.IN_PLACE:
                samples = run.wait_for_checkpoint(run.checkpoint()["samples"])["samples"]
            time.sleep(trouble_s)
        most = (time.monotonic() - begin_s) / CHECKPOINT_S + 2
        samples = run.wait_for_checkpoint(samples)["samples"]
        run.wait_for_checkpoint(samples)
        errors = _journal_errors(run)
        summary = run.finish()
        truth_j = run.truth_j(started_s(summary), ended_s(summary))
        account_j = summary["energy"]["total_j"]
        said = run.said()
        # The baseline and the last sample are beside the grid.
        expected = summary["run"]["duration_s"] / summary["monitor"]["interval_s"]
        sampled = (summary["monitor"]["samples"] - 2) / expected
        checks = [
            energy_check(truth_j, account_j, 3 * INTERVAL_S * (GPU_W + CPU_W), "exact but for the edges"),
            Check(f"sampling goes on: {sampled:.0%} of the ticks", sampled >= TRUST),
            Check("everything is there", _is_complete(run.folder, account_j)),
        ]
        if then is Then.IN_PLACE:
            checks.append(Check("checkpoints go on in their place", True))
        if then is not Then.WRITES_ANEW:
            at_least = 1 if then is Then.FAILS else 0
            checks.append(Check(f"{errors} failing writes counted", at_least <= errors <= most))
            changes = (said.count("journal cannot write"), said.count("journal works again"))
            expected_changes = (1, 1) if errors else (0, 0)
            checks.append(Check("one log line for each change of state", changes == expected_changes))
        lost_s = sum(unobserved_s(summary).values())
        return Row(name, f"{what} for {trouble_s:.1f} s", truth_j, account_j, lost_s, tuple(checks))


def _hangs(trouble_s: float) -> Row:
    """The write of a checkpoint does not return; the sampler must not notice."""
    released = threading.Event()

    def hanging(slots: CheckpointSlots, text: str) -> None:
        if not released.wait(command.DEADLINE_S):
            raise OSError(errno.EIO, "it hung too long")
        write(slots, text)

    write = CheckpointSlots.write
    with Running() as run:
        with mock.patch.object(CheckpointSlots, "write", hanging):
            begin_at_s, begin_s = run.sampler.sampled_s, time.monotonic()
            first = len(run.source.asked_s)
            time.sleep(trouble_s)
            at_s = run.sampler.sampled_s
            expected = (time.monotonic() - begin_s) / INTERVAL_S
            taken = len(run.source.asked_s) - first
            released.set()
            return run.row(
                "a write hangs",
                f"one write takes {trouble_s:.1f} s",
                Check(f"sampling goes on: {taken / expected:.0%} of the ticks", taken >= TRUST * expected),
                Check("the newest sample moves on meanwhile", at_s > begin_at_s),
                Check("no error", run.recorder.guard.errors == 0),
                Check("nothing logged", run.log.lines == []),
            )


def _fails(trouble_s: float) -> Row:
    """Every write fails: each failing checkpoint is counted once, each change of state logged once."""
    failed: list[str] = []

    def failing(slots: CheckpointSlots, text: str) -> None:
        failed.append(text)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Running() as run:
        with mock.patch.object(CheckpointSlots, "write", failing):
            time.sleep(trouble_s)
            command.wait_for(lambda: failed, "a failing checkpoint")
        command.wait_for(lambda: run.log.count(lambda line: "works again" in line), "the end of the trouble")
        count = len(failed)
        return run.row(
            "every write fails",
            f"EIO for {trouble_s:.1f} s",
            Check(f"{count} failing checkpoints counted once each", run.recorder.guard.errors == count),
            Check("one log line for each change of state", len(run.log.lines) == 2),
        )


class Running:
    """Sampler and recorder in their threads in this process, on the real clock."""

    def __enter__(self) -> Running:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.log = self._stack.enter_context(Lines())
        self.clock = SystemClock()
        self.source = Source([GPU])
        self.sampler = sampler_of(self.source, self.clock, INTERVAL_S)
        self.recorder = recorder_of(self.folder, self.clock, self.sampler, CHECKPOINT_S)
        self._stack.callback(self.recorder.close)
        account = RunAccount(INFO, self.source.devices(), parts=self.recorder.parts(INFO.id))
        requests = RequestQueue(self.clock)
        requests.post(lambda: self.sampler.begin(account), "edge")
        self._sampling = SamplingLoop(self.sampler, requests, self.clock)
        self._sampling.start()
        self._baseline_s = self.source.asked_s[0]
        self.recorder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sampling.stop()
        self._stack.close()

    def row(self, name: str, faults: str, *checks: Check) -> Row:
        """End the run and compare what is on the disk with the truth."""
        samples = checkpointed_samples(self.folder)
        command.wait_for(lambda: checkpointed_samples(self.folder) > samples, "another checkpoint")
        stopped = self._sampling.stop()
        final = self.sampler.finish(0, None)
        written = self.recorder.finish(final)
        truth_j = POWER_W[GPU.id] * (self.source.asked_s[-1] - self._baseline_s)
        account_j = run_j(read_checkpoint(self.folder).snapshot)
        lost_s = sum(seconds for _, seconds in final.runs[0].unobserved_s)
        every = (
            energy_check(truth_j, account_j, 1e-3 * truth_j, "exact on the disk"),
            Check("everything is there", stopped and written and _is_complete(self.folder, account_j)),
        )
        return Row(name, faults, truth_j, account_j, lost_s, (*every, *checks))


def _journal_errors(run: Watched) -> int:
    text = command.get(run.address, **HEADERS)
    match = re.search(r'^carbonmon_exporter_errors_total\{exporter="journal"\} (\S+)', text, re.MULTILINE)
    return int(float(match[1])) if match else -1


def _is_complete(folder: Path, account_j: float) -> bool:
    """Whether the folder's files can be read and end with the whole account."""
    _, devices = read_run(folder)
    snapshot = read_checkpoint(folder).snapshot
    rows, damaged = read_series(folder)
    series_j = sum(row.energy_j for row in rows)
    return (
        bool(devices)
        and not damaged
        and abs(run_j(snapshot) - account_j) < 1e-6
        and abs(series_j - account_j) < 0.01 * len(devices)
    )

"""Other users of a node: one floods the daemon's socket, one plants what the daemon is to fall for."""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from carbonmon.client.rendezvous import connect
from carbonmon.core.labels import MAX_BYTES, RESERVED
from carbonmon.runs.holder import boot_id
from carbonmon.runs.layout import CHECKPOINT_FILE
from tests.chaos.table import Check, Row
from tests.simulator import Constant, Package, Simulator
from tests.support import checkpoints, command
from tests.support.daemon import Daemon, daemon
from tests.support.limits import FIRST_UID
from tests.support.planted import PLANTED, left

RATE, REGISTERS, PLANTED_FOLDERS = 1000.0, 60, 200
LONGEST_S = 0.1

FLOOD = """
import socket, sys, time
path, rate = sys.argv[1], float(sys.argv[2])
begin_s, count = time.monotonic(), 0
while True:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0.0)
        try:
            connection.connect(path)
        except OSError:
            pass
    count += 1
    time.sleep(max(0.0, begin_s + count / rate - time.monotonic()))
    if count % 1000 == 0:
        print(count / (time.monotonic() - begin_s), flush=True)
"""


def rows(short: bool, kills: int, chance: random.Random) -> Iterator[Row]:
    if os.geteuid() != 0:
        sys.stderr.write("users: left out, only root's daemon takes runs of others\n")
        return
    yield _flood(6 if short else REGISTERS, 10.0 if short else LONGEST_S)
    yield _planted(2 * len(PLANTED) if short else PLANTED_FOLDERS)
    yield _labels()


def _machine() -> Simulator:
    return Simulator(packages=[Package(profile=Constant(100.0))])


def _flood(registers: int, longest_s: float) -> Row:
    with tempfile.TemporaryDirectory(dir="/tmp") as name, _machine() as machine:
        Path(name).chmod(0o755)
        with daemon(machine, Path(name)) as node:
            calm_s = [_register(node, f"calm-{number}")[0] for number in range(registers)]
            words = ["setpriv", f"--reuid={FIRST_UID}", f"--regid={FIRST_UID}", "--clear-groups"]
            # The machine's own Python: that of the tests may be in root's home.
            flood = subprocess.Popen(
                [*words, "/usr/bin/python3", "-c", FLOOD, str(node.socket), str(RATE)],
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                assert flood.stdout is not None
                reached = float(flood.stdout.readline())
                answers = [_register(node, f"root-{number}") for number in range(registers)]
            finally:
                flood.kill()
                flood.communicate()
            node.stop()
    took_s = [seconds for seconds, _ in answers]
    refused = sum(not is_taken for _, is_taken in answers)
    median_ms, most_ms = 1e3 * statistics.median(took_s), 1e3 * max(took_s)
    return Row(
        "another user floods the daemon's socket",
        f"{reached:.0f} connections a second",
        None,
        None,
        None,
        (
            Check(
                f"root's `register` within {1e3 * longest_s:.0f} ms, the median of {registers}: "
                f"{median_ms:.1f} ms, at most {most_ms:.1f} ms; before the flood "
                f"{1e3 * statistics.median(calm_s):.1f} ms, at most {1e3 * max(calm_s):.1f} ms",
                median_ms <= 1e3 * longest_s,
            ),
            Check(f"{refused} refused", refused == 0),
        ),
    )


def _register(node: Daemon, run_id: str) -> tuple[float, bool]:
    """How long it took root to register a run, and whether it was taken; the run is ended again."""
    begin_s = time.monotonic()
    is_taken = "error" not in ask(node, op="register", run_id=run_id)
    took_s = time.monotonic() - begin_s
    ask(node, op="unregister", run_id=run_id)
    return took_s, is_taken


def ask(node: Daemon, **message: object) -> dict[str, object]:
    """What the daemon answers to one message in a connection of its own."""
    with connect(node.socket, command.DEADLINE_S) as connection:  # as our commands do
        connection.sendall(json.dumps({"v": 1, "id": 1, **message}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer: dict[str, object] = json.loads(lines.readline())
            return answer


def _planted(count: int) -> Row:
    """Folders, links, second names, pipes and foreign names beside the runs of root's daemon."""
    with tempfile.TemporaryDirectory() as name, _machine() as machine:
        folder = Path(name)
        output, target = folder / "runs", folder / "precious"
        target.write_text("as it was")
        own = _living(output, "own")
        for number in range(count):
            PLANTED[number % len(PLANTED)](_living(output, f"planted-{number}"), target)
        (output / ".checkpoints.planted.json").symlink_to(target)
        outside = {path: path.read_bytes() for path in folder.glob("outside-*/*")}
        with daemon(machine, folder) as node:
            text = node.metrics()
            shown = {path.name for path in output.iterdir() if f'run_id="{path.name}"' in text}
            said = node.stop()
        changed = [path for path, text in outside.items() if path.read_bytes() != text]
        is_whole = target.read_text() == "as it was"
        shutil.rmtree(output, ignore_errors=True)
    return Row(
        "folders, links, second names, pipes and names are planted",
        f"{count} beside the runs of root's daemon",
        None,
        None,
        None,
        (
            Check(f"{len(shown - {own.name})} followed", not shown - {own.name}),
            Check("the run that is the daemon's own goes on", own.name in shown),
            Check(f"{len(changed) + (not is_whole)} written outside", is_whole and not changed),
            Check(f"{len(said.splitlines())} lines of the log", len(said.splitlines()) <= count),
        ),
    )


def _living(output: Path, run_id: str) -> Path:
    """A run of this boot that lives until somebody ends it."""
    folder = left(output, run_id, "request")
    checkpoints.edit(folder / CHECKPOINT_FILE, lambda found: found.update(boot_id=boot_id(Path("/proc"))))
    return folder


def _labels() -> Row:
    asked = [{name: "planted"} for name in sorted(RESERVED)]
    asked += [{f"key-{number}": "x" * MAX_BYTES} for number in range(10)]
    with tempfile.TemporaryDirectory() as name, _machine() as machine, daemon(machine, Path(name)) as node:
        answers = [
            ask(node, op="register", run_id=f"labels-{number}", labels=labels)
            for number, labels in enumerate(asked)
        ]
        size = len(node.metrics())
        node.stop()
    taken = sum("error" not in answer for answer in answers)
    return Row(
        "labels with names of the metrics, and too long ones",
        f"{len(asked)} runs",
        None,
        None,
        None,
        (Check(f"{taken} taken", taken == 0), Check(f"/metrics has {size / 1e3:.0f} kB", size < 1e5)),
    )

"""Jobs of several processes on a simulated machine: whoever starts a monitor there meters that machine."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command


def settings(machine: Simulator, folder: Path, **more: str) -> dict[str, str]:
    """The environment of a job on the machine: whoever starts a monitor there gives it these choices."""
    (folder / "runtime").mkdir(mode=0o700, exist_ok=True)
    choices = {
        "CARBONMON_LISTEN": "127.0.0.1:0",
        "CARBONMON_SYSFS": str(machine.sysfs),
        "CARBONMON_SENSOR": "nvml,rapl",
        "CARBONMON_INTERVAL": "0.2",
        "CARBONMON_IDLE": "exclusive",
        "XDG_RUNTIME_DIR": str(folder / "runtime"),
    }
    return command.environ(**machine.environ, **{**choices, **more})


def start(arguments: list[str], folder: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments,
        cwd=folder,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go(processes: list[subprocess.Popen[str]]) -> None:
    """Let all of them go on at once."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def monitors(folder: Path) -> list[psutil.Process]:
    """The monitors that were started for jobs of this test: their socket is in its runtime folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "daemon" in words and any(word.startswith(str(folder)) for word in words):
            found.append(process)
    return found


def gone(folder: Path) -> None:
    command.wait_for(lambda: not monitors(folder), "the end of the monitor")


def truth_j(machine: Simulator, summary: dict[str, Any]) -> float:
    start_s, end_s = (
        datetime.fromisoformat(summary["run"][key].replace("Z", "+00:00")).timestamp()
        for key in ("started_at", "ended_at")
    )
    devices = [*machine.gpus, *machine.zones.values()]
    return sum(device.energy_between_wall(start_s, end_s) for device in devices)


NODE_W = 300.0 + 150.0 + 120.0 + 15.0


def machine() -> Simulator:
    return Simulator(
        # A counter that is refreshed every 20 ms would shift the edges of these short runs by as much.
        gpus=[Gpu(profile=Constant(watts), counter_refresh_s=0.001) for watts in (300.0, 150.0)],
        packages=[Package(profile=Constant(120.0), dram=Constant(15.0))],
    )

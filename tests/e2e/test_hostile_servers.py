"""A real monitor whose servers are hostile: the job ends as it would, and the monitor does not grow."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulator import Constant, Gpu, Simulator
from tests.support import command
from tests.support.gridserver import FAULTS, GridServer, Reply

pytestmark = pytest.mark.e2e

WITHIN_BYTES = 4_000_000


def peak_bytes(folder: Path, server: GridServer) -> int:
    """VmHWM of a monitor that asks the server for the grid's intensity and pushes a run to it in two ways."""
    folder.mkdir()
    with Simulator(gpus=[Gpu(profile=Constant(300.0))]) as machine:
        options = [
            "--own-monitor",
            "--idle",
            "exclusive",
            "--sensor",
            "nvml",
            "--sysfs",
            str(machine.sysfs),
            "--grid",
            "electricitymaps:DE",
        ]
        exporters = f"summary,otlp:{server.url},pushgateway:{server.url}"
        env = {
            **machine.environ,
            "CARBONMON_ELECTRICITYMAPS_TOKEN": "token",
            "CARBONMON_ELECTRICITYMAPS_URL": server.url,
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        process = command.start(
            ["run", *options, "--exporter", exporters, "--", "sh", "-c", "sleep 1; exit 3"],
            folder,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, _vm_hwm_bytes(process.pid))
            time.sleep(0.01)  # it is the most since its start, whenever it is asked
    assert process.returncode == 3
    assert command.summary(folder)["energy"]["total_j"] > 0.0
    assert {request.headers.get("content-type", "").partition(";")[0] for request in server.requests} >= {
        "",
        "application/x-protobuf",
        "text/plain",
    }, "each of the three has asked"
    return peak


def _vm_hwm_bytes(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:  # it has just ended
        return 0
    return 0 if found is None else int(found[1]) * 1024


def test_no_hostile_server_takes_a_monitor_beyond_4_mb(tmp_path: Path):
    def ask(name: str, fault: Callable[..., None] | None) -> int:
        with GridServer(lambda request: Reply(b"" if "content-length" in request.headers else {})) as server:
            server.fault = fault
            return peak_bytes(tmp_path / name, server)

    normal = ask("normal", None)
    hostile = ("endless", "endless_bomb", "endless_headers", "chunk_of_less_than_nothing")
    grown = {name: ask(name, FAULTS[name][0]) - normal for name in hostile}
    assert max(grown.values()) <= WITHIN_BYTES, grown

"""One tick of the sampler against the bare loop of the same reads; as a child process on the machine."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import node
from tests.bench.table import Row, spread
from tests.simulator.powercap import LINE_BYTES


def rows(quick: bool) -> Iterator[Row]:
    medians: dict[int, float] = {}
    for gpus in (1, 8, 64):
        with node.machine(gpus) as sim:
            found = _measure(sim, gpus, 300 if quick else 2000, 0.0)
            medians[gpus] = statistics.median(found["tick"])
            growth = f"; {medians[64] / medians[8]:.1f} × the tick of 8 GPUs" if gpus == 64 else ""
            yield Row(
                f"one tick (read, meter, share, charge; each fifth publishes), {gpus} GPU{'s' * (gpus > 1)} "
                "and 2 packages with dram, warm loop",
                {1: "", 8: "≤ 3 × the bare reads", 64: "≤ 8 × the tick of 8 GPUs"}[gpus],
                _compared(found) + growth,
                f"CPU time, median (quartiles) of {len(found['tick'])}, in turns with the bare reads in "
                f"one process; {found['how']}; the machine's time moves 1 s a tick, so every counter is read",
            )
    with node.machine() as sim:
        found = _measure(sim, 8, 4 if quick else 15, 1.0)
        yield Row(
            "the same tick after a second of sleep, 8 GPUs",
            "",
            _compared(found),
            f"CPU time of the process, {len(found['tick'])} each, alternating: this is what a monitor at rest"
            " pays, with caches and clock cold",
        )


def _compared(found: dict[str, Any]) -> str:
    ratio = statistics.median(found["tick"]) / statistics.median(found["bare"])
    tick, bare = (spread(found[name], "µs", 1e6, 0) for name in ("tick", "bare"))
    whole, unpublished = (
        f"{statistics.median(found[name]) * 1e6:.0f} µs" for name in ("whole", "unpublished")
    )
    alone = f"all of it at once {whole}, {unpublished} without publishing"
    return f"{tick}, {ratio:.1f} × the bare reads' {bare}; {alone}"


def _measure(sim: Any, gpus: int, rounds: int, sleep_s: float) -> dict[str, Any]:
    control = sim.environ["CARBONMON_SIM_CONTROL"]
    arguments = [node.sysfs(sim), control, str(rounds), str(sleep_s)]
    found: dict[str, Any] = node.python(sim, ["-m", "tests.bench.tick", *arguments])
    return found


def main(sysfs: Path, control_file: Path, rounds: int, sleep_s: float) -> None:
    """In the child: prints the times in seconds of `rounds` ticks and bare reads as JSON."""
    from carbonmon.core.config import Config
    from carbonmon.monitor.relief import Relief
    from carbonmon.monitor.run_account import RunAccount
    from carbonmon.runs.series_rows import Parts
    from carbonmon.service.open_grid import open_overheads, open_provider
    from carbonmon.service.open_sensors import open_sensors
    from tests.simulator.layout import Control
    from tests.support.harness import INFO, make_sampler

    with open(control_file, "r+b") as file:
        control = Control.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(Control)))
    advance = _own_time(control, sysfs)

    class MachineTime:
        def now_s(self) -> float:
            return control.manual_now_s

        def wall_s(self) -> float:
            return control.manual_now_s + control.wall_offset_s

    config = Config(sysfs=sysfs)
    with ExitStack() as closing:
        sensors = open_sensors(config, {}, closing)
        sampler = make_sampler(
            sensors.sensors,
            sensors.devices,
            sensors.unused(),
            open_provider(config),
            MachineTime(),
            1.0,
            open_overheads(config),
            "bench",
        )
        relief = Relief(lambda: None)  # as beside a job: nobody hands a reading on to another thread
        if relief.start():
            sampler.read_in_place(relief)
            closing.callback(relief.close)
        sampler.tick(edge=True)
        parts: Parts = deque(maxlen=100)
        sampler.begin(RunAccount(INFO, sensors.devices.values(), parts=parts))
        bare = _bare_reads(sysfs)
        clock = time.process_time
        # As the loop does it at 1 s, where a snapshot is made every 5 s: the others only read.
        work: list[tuple[str, list[Callable[[], None]]]] = [
            ("tick", [*[sampler.sample] * 4, sampler.tick]),
            ("bare", [bare]),
            ("whole", [sampler.tick]),
            ("unpublished", [partial(sampler.tick, publish=False)]),
        ]
        times: dict[str, list[float]] = {name: [] for name, _ in work}
        for number in range(-20 if not sleep_s else -1, rounds):
            for name, calls in work if number % 2 else reversed(work):
                spent_s = 0.0
                for call in calls:
                    advance()
                    time.sleep(sleep_s) if sleep_s else None
                    begin_s = clock()
                    call()
                    spent_s += clock() - begin_s
                if number >= 0:
                    times[name].append(spent_s / len(calls))
        joules = sum(state.counter_j for state in sampler.latest.devices)
        rapl = next((source.reason for source in sensors.sources if source.name == "rapl"), "")
    if not joules:
        raise RuntimeError("the ticks charged nothing: they were not what is to be measured")
    how = "RAPL through pyRAPL" if "pyRAPL, 0 directly" in rapl else "RAPL's files read directly"
    sys.stdout.write(json.dumps({**times, "how": how}))


def _own_time(control: Any, sysfs: Path) -> Callable[[], None]:
    """Take the machine's time over: each call moves it on by a second, and RAPL by 100 J a zone.

    powercapd, which would wake up beside the loop that is measured, is told to leave the files alone.
    """
    control.manual_now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    zones = []
    for zone in control.zone[: control.zone_count]:
        zone.paused = 1
        path = sysfs / zone.path.decode()
        path.chmod(0o600)
        zones.append((os.open(path, os.O_WRONLY), zone.range_uj + 1))
    control.powercap_tick_s = 1.0
    time.sleep(0.2)  # until its last pass is over
    drawn_uj = 0

    def advance() -> None:
        nonlocal drawn_uj
        drawn_uj += 100_000_000
        control.manual_now_s += 1.0
        for file, modulus in zones:
            os.pwrite(file, (b"%d" % (drawn_uj % modulus)).ljust(LINE_BYTES, b"\n"), 0)

    return advance


def _bare_reads(sysfs: Path) -> Callable[[], None]:
    """The same reads without anything around them: the least that any monitor in Python pays."""
    import psutil
    import pynvml

    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    root = sysfs / "devices" / "virtual" / "powercap"
    files = [os.open(path, os.O_RDONLY) for path in sorted(root.rglob("energy_uj"))]

    def read() -> None:
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            pynvml.nvmlDeviceGetPowerUsage(handle)
            pynvml.nvmlDeviceGetUtilizationRates(handle)
        for file in files:
            os.pread(file, 64, 0)
        psutil.cpu_times()

    return read


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))

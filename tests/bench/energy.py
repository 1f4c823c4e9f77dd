"""The energy in the summary of a real run in real time against what the machine really drew."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime

from tests.bench import node
from tests.bench.table import Row
from tests.simulator import Constant, Gpu, Package, Ramp, Simulator, Sine, Square
from tests.simulator.powercap import DRAM_RANGE_UJ, PACKAGE_RANGE_UJ

ALMOST_J = 500  # each counter of RAPL wraps after so many joules of the run, or a little less

GPUS = {
    "constant": Gpu(profile=Constant(300.0)),
    "square wave of 0.7 s": Gpu(profile=Square(60.0, 350.0, period_s=0.7)),
    "sine of 7 s": Gpu(profile=Sine(200.0, 120.0, period_s=7.0)),
    "ramp": Gpu(profile=Ramp(80.0, 380.0, duration_s=60.0)),
}
POWER_ONLY = {
    "a power sensor that sees all of the time": Gpu(profile=Square(60.0, 350.0, period_s=0.7)),
    "a power sensor that sees a quarter of the time": Gpu(
        profile=Square(60.0, 350.0, period_s=0.7), sample_period_s=0.1, sensor_window_s=0.025
    ),
}


def rows(quick: bool) -> Iterator[Row]:
    seconds = 20 if quick else 60
    packages = [
        Package(
            Constant(80.0 + 40.0 * place),
            dram=Constant(30.0 - 10.0 * place),
            start_uj=PACKAGE_RANGE_UJ - ALMOST_J * 1_000_000,
            dram_start_uj=DRAM_RANGE_UJ - ALMOST_J * 500_000,
        )
        for place in range(2)
    ]
    with Simulator(gpus=[*GPUS.values(), *POWER_ONLY.values()], packages=packages) as sim:
        for gpu in sim.gpus[len(GPUS) :]:
            gpu.fault(no_counter=True)
        errors, wraps = _errors(sim, seconds)
    counters = {name: error for name, error in errors.items() if name not in POWER_ONLY}
    yield Row(
        f"energy of a real run of {seconds} s with counters: 4 GPUs, 2 packages, 2 dram",
        "≤ 0.2 %",
        f"{max(map(abs, counters.values())):.3%} at most",
        "the summary against the integrals of the power profiles from started_at to ended_at: "
        f"{_listed(counters)}; {wraps} counters wrapped on the way",
    )
    for number, name in enumerate(POWER_ONLY):
        yield Row(
            f"energy of the same run, a GPU without energy counter on a square wave of 0.7 s, {name}",
            "" if number else "≤ 2 %",
            f"{errors[name]:+.3%}",
            "NVML's buffer of power samples, read once a second"
            + (
                ": 25 ms of each 100 ms as on an A100, which no monitor can mend; a worst case, because the "
                "wave's period is a multiple of the sensor's"
                if number
                else ""
            ),
        )


def _listed(errors: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {error:+.3%}" for name, error in errors.items())


def _errors(sim: Simulator, seconds: int) -> tuple[dict[str, float], int]:
    """Relative error of each device by its profile's or zone's name, and how many counters wrapped."""
    names = dict(zip((gpu.uuid for gpu in sim.gpus), (*GPUS, *POWER_ONLY), strict=True))
    counts = {key: _counter_uj(sim, key) for key in sim.zones}
    with node.Monitored(sim, ["sleep", str(seconds)]) as monitored:
        time.sleep(seconds)
        summary = monitored.end()
    start_s, end_s = (_unix_s(summary["run"][key]) for key in ("started_at", "ended_at"))
    errors = {}
    for device in summary["energy"]["devices"]:
        key = device["id"]
        live = sim.zones.get(key) or next(gpu for gpu in sim.gpus if gpu.uuid == key)
        errors[names.get(key, key)] = device["energy_j"] / live.energy_between_wall(start_s, end_s) - 1.0
    return errors, sum(_counter_uj(sim, key) < before for key, before in counts.items())


def _counter_uj(sim: Simulator, key: str) -> int:
    return int((sim.zones[key].folder / "energy_uj").read_text())


def _unix_s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()

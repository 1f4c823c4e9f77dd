"""The energy account under each fault, in virtual time: what is missing must be reported, not invented."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.bench.table import Row
from tests.simulator import Constant, Gpu, LiveGpu, LiveZone, Package, Simulator, Sine
from tests.simulator.powercap import PACKAGE_RANGE_UJ
from tests.support.harness import Monitor

BEFORE_S, AFTER_S = 30, 90
PACKAGE_W = 200.0
UNREAD_S = 2.3 * PACKAGE_RANGE_UJ / 1e6 / PACKAGE_W


class Fault(NamedTuple):
    """What happens to one device after `BEFORE_S` seconds; without an `end` it happens once."""

    name: str
    begin: Callable[[Simulator, LiveGpu, LiveZone], object]
    seconds: int = 0
    end: Callable[[LiveGpu, LiveZone], object] | None = None
    rapl: bool = False
    unread_s: float = 0.0


def _cleared(gpu: LiveGpu, zone: LiveZone) -> None:
    gpu.clear()
    zone.clear()


FAULTS = (
    Fault("a GPU lost for 30 s and back", lambda _, gpu, __: gpu.fault(lost=True), 30, _cleared),
    Fault("a driver reload", lambda sim, *_: sim.reload_driver()),
    Fault("a GPU counter's reset", lambda sim, gpu, _: gpu.fault(counter_reset_at=sim.now_s())),
    Fault("a GPU counter stepping back 5 kJ", lambda _, gpu, __: gpu.fault(counter_offset_mj=-5_000_000)),
    Fault("a GPU counter jumping 50 MJ", lambda _, gpu, __: gpu.fault(counter_offset_mj=50_000_000_000)),
    Fault("one failed counter read", lambda _, gpu, __: gpu.fault(fail_next_counter_reads=1)),
    Fault("ten failed counter reads", lambda _, gpu, __: gpu.fault(fail_next_counter_reads=10)),
    Fault("no permission on a GPU for 20 s", lambda _, gpu, __: gpu.fault(no_permission=True), 20, _cleared),
    Fault("garbage in a RAPL file for 10 s", lambda *_: _[2].fault(file="garbage"), 10, _cleared, rapl=True),
    Fault("a RAPL counter's reset", lambda sim, _, zone: zone.fault(reset_at=sim.now_s()), rapl=True),
    Fault("2.3 wraps of RAPL unread", lambda *_: None, rapl=True, unread_s=UNREAD_S),
)


def rows(quick: bool) -> Iterator[Row]:
    for fault in FAULTS:
        logging.disable()  # the monitor warns of each fault, as it should
        try:
            error, lost_s, total_s = _suffer(fault)
        finally:
            logging.disable(logging.NOTSET)
        yield Row(
            f"energy under a fault: {fault.name}",
            "≤ 0.5 % beside the lost seconds",
            f"{error:+.3%}, {lost_s:.1f} s unobserved",
            f"virtual time, {total_s:.0f} s at 1 s; "
            + (f"a package at {PACKAGE_W:.0f} W" if fault.rapl else "a GPU on a sine of 200 ± 120 W and 7 s"),
        )


def _suffer(fault: Fault) -> tuple[float, float, float]:
    """Relative error of account + truth of the lost seconds, those seconds, and the whole time in seconds."""
    gpus = [Gpu(profile=Sine(200.0, 120.0, period_s=7.0))]
    with (
        Simulator(gpus=gpus, packages=[Package(Constant(PACKAGE_W))]) as machine,
        Monitor(machine) as monitor,
    ):
        gpu, zone = machine.gpus[0], machine.zones["package-0"]
        account = _Account(monitor, "package-0" if fault.rapl else gpu.uuid, zone if fault.rapl else gpu)
        account.watch(BEFORE_S)
        fault.begin(machine, gpu, zone)
        machine.advance(fault.unread_s)
        account.watch(fault.seconds)
        if fault.end is not None:
            fault.end(gpu, zone)
        account.watch(AFTER_S)
        monitor.finish()
        account.note()
        total_s = machine.now_s() - monitor.start_s
        truth_j = monitor.truth_j(account.device_id)
        energy_j = monitor.device(account.device_id).energy_j
        return (energy_j + account.lost_j) / truth_j - 1.0, account.lost_s, total_s


class _Account:
    """Follows one device and adds up what it truly drew in the seconds that are reported unobserved."""

    def __init__(self, monitor: Monitor, device_id: str, truth: LiveGpu | LiveZone) -> None:
        self._monitor, self._truth = monitor, truth
        self.device_id = device_id
        self.lost_s = self.lost_j = self._energy_j = 0.0
        self._settled_s = monitor.start_s

    def watch(self, seconds: int) -> None:
        for _ in range(seconds):
            self._monitor.watch(1)
            self.note()

    def note(self) -> None:
        """Lost seconds lie between the last time that something was settled and now."""
        state, now_s = self._monitor.device(self.device_id), self._monitor.machine.now_s()
        lost_s = state.unobserved_s - self.lost_s
        if lost_s:
            drawn_j = self._truth.energy_j(self._settled_s, now_s)
            self.lost_j += drawn_j * lost_s / (now_s - self._settled_s)
        if lost_s or state.energy_j != self._energy_j:
            self._settled_s = now_s
        self.lost_s, self._energy_j = state.unobserved_s, state.energy_j

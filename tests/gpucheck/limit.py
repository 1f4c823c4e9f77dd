"""A lowered power limit: only where the user allows it, and always set back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.gpucheck.figures import Book
from tests.gpucheck.plan import Plan
from tests.gpucheck.subject import Subject

LOWERED_RATIO = 0.6
SETTLE_S = 1.2
NAME = "a lowered power limit"


@contextmanager
def lowered(subject: Subject, limit_mw: int) -> Iterator[None]:
    """The power limit (mW) for the time of the block; what it was before is set again however that ends.

    Raises NVML's error where it may not be changed. A signal must raise in the block to get here (`__main__`
    sees to that); only SIGKILL leaves the limit behind, so the command that mends it is printed first.
    """
    nvml, handle = subject.nvml, subject.handle
    before_mw = nvml.nvmlDeviceGetPowerManagementLimit(handle)
    sys.stderr.write(
        f"gpu-check: power limit {before_mw / 1e3:.0f} W -> {limit_mw / 1e3:.0f} W for some seconds; if this "
        f"process is killed: nvidia-smi -i {subject.index} -pl {before_mw / 1e3:.0f}\n"
    )
    try:
        nvml.nvmlDeviceSetPowerManagementLimit(handle, limit_mw)
        yield
    finally:
        if nvml.nvmlDeviceGetPowerManagementLimit(handle) != before_mw:
            nvml.nvmlDeviceSetPowerManagementLimit(handle, before_mw)


def measure(subject: Subject, book: Book, plan: Plan) -> None:
    """Power under a steady load below the limit, and that the limit is what it was afterwards."""
    nvml, handle, load, clock = subject.nvml, subject.handle, subject.load, subject.clock
    if not subject.may_lower_limit:
        book.missing(NAME, "not asked for: --lower-power-limit")
        return
    if load is None:
        book.missing(NAME, "no load for the GPU")
        return
    try:
        least_mw, _ = nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
        before_mw = nvml.nvmlDeviceGetPowerManagementLimit(handle)
        wanted_mw = max(least_mw, round(before_mw * LOWERED_RATIO))
        load.steady()
        with lowered(subject, wanted_mw):
            subject.follow_limit()
            clock.sleep(SETTLE_S)
            begin_s, begin_mj = clock.wall_s(), nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            clock.sleep(plan.limit_s)
            drawn_mj = nvml.nvmlDeviceGetTotalEnergyConsumption(handle) - begin_mj
            mean_w = drawn_mj / 1e3 / (clock.wall_s() - begin_s)
    except nvml.NVMLError as error:
        book.missing(NAME, f"not allowed here: {error}")
        return
    finally:
        load.idle()
    book.between(
        f"power under a limit of {wanted_mw / 1e3:.0f} W, steady load",
        mean_w,
        None,
        1.05 * wanted_mw / 1e3,
        "W",
        "nvml.h: the limit in force; 5 % for the control loop",
    )
    after_mw = nvml.nvmlDeviceGetPowerManagementLimit(handle)
    book.holds(
        "the power limit afterwards",
        f"{after_mw / 1e3:.0f} W",
        after_mw == before_mw,
        "as before",
        "own promise",
    )

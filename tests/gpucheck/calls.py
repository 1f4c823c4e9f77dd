"""Group 1: what the machine is, what NVML answers to each call that is used, and how long it takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from carbonmon.hardware.spec_sheets import gpu_spec
from tests.gpucheck.figures import Book
from tests.gpucheck.plan import Plan
from tests.gpucheck.report import version_of
from tests.gpucheck.subject import Subject

SLOWEST_US = 100_000
"""A tick makes some four calls for each GPU: 100 ms for one would be seen on a grid of 1 s."""
TIME_SOURCE = "own bound: a tenth of the default interval of 1 s"
LONGEST_S = 0.5
"""A call that takes long is made less often."""

FIELDS = {83: "energy", 185: "average power", 186: "instantaneous power", 191: "energy by scope"}

SUPPORTED = "answers"
NONE_FOUND = "answers, or NOT_FOUND"
OPTIONAL = "answers, or NOT_SUPPORTED"
REPLACED = "answers, or FUNCTION_NOT_FOUND"
EXPECTED = {
    SUPPORTED: {"answers"},
    NONE_FOUND: {"answers", "NotFound"},
    OPTIONAL: {"answers", "NotSupported"},
    REPLACED: {"answers", "FunctionNotFound"},
}


def measure(subject: Subject, book: Book, plan: Plan) -> None:
    book.group = "the machine"
    _name(subject, book)
    book.group = "NVML's calls"
    _time(subject, book, plan)


def answer(nvml: Any, call: Callable[[], Any]) -> tuple[str, Any]:
    """("answers", its value), or (the error's name in nvml.h, None)."""
    try:
        return "answers", call()
    except nvml.NVMLError as error:
        return type(error).__name__.removeprefix("NVMLError_"), None
    except UnicodeDecodeError:  # names that are not UTF-8 (drivers under WSL): the binding does not catch it
        return "UnicodeDecodeError", None


def _name(subject: Subject, book: Book) -> None:
    nvml, handle = subject.nvml, subject.handle

    def ask(name: str, *more: Any) -> Any:
        return answer(nvml, lambda: getattr(nvml, name)(handle, *more))[1]

    book.note("driver", answer(nvml, nvml.nvmlSystemGetDriverVersion)[1])
    book.note("NVML", answer(nvml, nvml.nvmlSystemGetNVMLVersion)[1])
    book.note("binding nvidia-ml-py", version_of("nvidia-ml-py"))
    book.note("GPU", f"{subject.name}, {subject.uuid}, NVML index {subject.index}")
    book.note("GPUs that NVML lists", answer(nvml, nvml.nvmlDeviceGetCount)[1])
    book.note("architecture by NVML's number", ask("nvmlDeviceGetArchitecture"), note="7 Ampere, 9 Hopper")
    mode = ask("nvmlDeviceGetMigMode")
    book.note("MIG", "not supported" if mode is None else ("on" if mode[0] else "off"))
    mode = ask("nvmlDeviceGetPersistenceMode")
    book.note("persistence mode", None if mode is None else ("on" if mode else "off"))
    book.note("virtualisation mode by NVML's number", ask("nvmlDeviceGetVirtualizationMode"), note="0 none")
    enforced_mw = ask("nvmlDeviceGetEnforcedPowerLimit")
    limits_mw = ask("nvmlDeviceGetPowerManagementLimitConstraints")
    book.note("power limit in force", None if enforced_mw is None else enforced_mw / 1e3, "W")
    if limits_mw is not None:
        book.note("power limit, least and most", f"{limits_mw[0] / 1e3:.0f} to {limits_mw[1] / 1e3:.0f} W")
    default_mw = ask("nvmlDeviceGetPowerManagementDefaultLimit")
    spec = gpu_spec(subject.name)
    if default_mw is None or spec is None:
        book.note("power limit by default", None if default_mw is None else default_mw / 1e3, "W")
    else:
        book.between(
            "power limit by default",
            default_mw / 1e3,
            0.99 * spec.tdp_w,
            1.01 * spec.tdp_w,
            "W",
            "the TDP of this model in carbonmon's table of GPUs",
        )


def calls_in_use(subject: Subject) -> list[tuple[str, str, Callable[[], Any]]]:
    """(name, what is expected, the call) of everything that carbonmon and this check ask NVML."""
    nvml, handle = subject.nvml, subject.handle

    mode = answer(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle))[1]
    in_mig = bool(mode and mode[0])  # a GPU in MIG mode tells no utilisation

    def on_gpu(name: str, expected: str, *more: Any) -> tuple[str, str, Callable[[], Any]]:
        return name, expected, lambda: getattr(nvml, name)(handle, *more)

    found = [
        ("nvmlDeviceGetCount", SUPPORTED, nvml.nvmlDeviceGetCount),
        ("nvmlDeviceGetHandleByIndex", SUPPORTED, lambda: nvml.nvmlDeviceGetHandleByIndex(subject.index)),
        ("nvmlDeviceGetHandleByUUID", SUPPORTED, lambda: nvml.nvmlDeviceGetHandleByUUID(subject.uuid)),
        on_gpu("nvmlDeviceGetUUID", SUPPORTED),
        on_gpu("nvmlDeviceGetName", SUPPORTED),
        on_gpu("nvmlDeviceGetPciInfo", SUPPORTED),
        on_gpu("nvmlDeviceGetTotalEnergyConsumption", SUPPORTED),
        on_gpu("nvmlDeviceGetPowerUsage", SUPPORTED),
        on_gpu("nvmlDeviceGetSamples", NONE_FOUND, nvml.NVML_TOTAL_POWER_SAMPLES, 0),
        on_gpu("nvmlDeviceGetUtilizationRates", OPTIONAL if in_mig else SUPPORTED),
        on_gpu("nvmlDeviceGetComputeRunningProcesses_v3", SUPPORTED),
        on_gpu("nvmlDeviceGetComputeRunningProcesses_v2", REPLACED),
        on_gpu("nvmlDeviceGetProcessUtilization", OPTIONAL if in_mig else NONE_FOUND, 0),
        on_gpu("nvmlDeviceGetFieldValues", SUPPORTED, list(FIELDS)),
        on_gpu("nvmlDeviceGetEnforcedPowerLimit", SUPPORTED),
        on_gpu("nvmlDeviceGetPowerManagementLimit", SUPPORTED),
        on_gpu("nvmlDeviceGetPowerManagementDefaultLimit", SUPPORTED),
        on_gpu("nvmlDeviceGetPowerManagementLimitConstraints", SUPPORTED),
        on_gpu("nvmlDeviceGetMigMode", OPTIONAL),
        on_gpu("nvmlDeviceGetMaxMigDeviceCount", OPTIONAL),
        on_gpu("nvmlDeviceGetArchitecture", SUPPORTED),
        on_gpu("nvmlDeviceGetPersistenceMode", SUPPORTED),
        on_gpu("nvmlDeviceGetVirtualizationMode", SUPPORTED),
    ]
    if in_mig:
        found += [
            on_gpu("nvmlDeviceGetMigDeviceHandleByIndex", NONE_FOUND, 0),
            (
                "nvmlDeviceGetAttributes",
                NONE_FOUND,
                lambda: nvml.nvmlDeviceGetAttributes(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0)),
            ),
        ]
    return found


def _time(subject: Subject, book: Book, plan: Plan) -> None:
    nvml = subject.nvml
    begin = time.perf_counter_ns()
    answer(nvml, nvml.nvmlInit)
    book.between(
        "nvmlInit, a second user",
        (time.perf_counter_ns() - begin) / 1e3,
        None,
        SLOWEST_US,
        "µs",
        TIME_SOURCE,
        "NVML was initialised already",
    )
    answer(nvml, nvml.nvmlShutdown)
    for name, expected, call in calls_in_use(subject):
        times_us: list[float] = []
        words: set[str] = set()
        stop_ns = time.perf_counter_ns() + LONGEST_S * 1e9
        while len(times_us) < plan.calls and (not times_us or time.perf_counter_ns() < stop_ns):
            begin = time.perf_counter_ns()
            words.add(answer(nvml, call)[0])
            times_us.append((time.perf_counter_ns() - begin) / 1e3)
        median_us, worst_us = statistics.median(times_us), max(times_us)
        book.holds(
            name,
            f"{', '.join(sorted(words))}; {median_us:.0f} µs, at worst {worst_us:.0f}",
            words <= EXPECTED[expected] and median_us <= SLOWEST_US,
            f"{expected}; within {SLOWEST_US / 1e3:.0f} ms",
            "docs/use/accuracy.md: what the meter reads; the time is an own bound",
            f"median and worst of {len(times_us)} calls",
            {"median_us": median_us, "worst_us": worst_us, "calls": len(times_us)},
        )
    _fields(subject, book)


def _fields(subject: Subject, book: Book) -> None:
    """Each entry of nvmlDeviceGetFieldValues has a result of its own (nvml.h)."""
    nvml = subject.nvml
    _, values = answer(nvml, lambda: nvml.nvmlDeviceGetFieldValues(subject.handle, list(FIELDS)))
    for value in values or ():
        word = "answers" if value.nvmlReturn == 0 else f"error {value.nvmlReturn}"
        optional = value.fieldId == 191
        book.holds(
            f"field {value.fieldId} ({FIELDS[value.fieldId]})",
            word,
            value.nvmlReturn == 0 or (optional and value.nvmlReturn == nvml.NVML_ERROR_NOT_SUPPORTED),
            OPTIONAL if optional else SUPPORTED,
            "nvml.h: each entry has its own nvmlReturn",
        )

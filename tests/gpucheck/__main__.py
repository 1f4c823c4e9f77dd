"""`python -m tests.gpucheck [--minutes M] [--only GROUP]…`: the page on stdout, it and the JSON in --output.

Exit code 0: every figure as expected; 1: one is not; 2: nothing could be measured; 130 or 143: interrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tests.gpucheck import plan as plans
from tests.gpucheck.figures import NOT_AS_EXPECTED
from tests.gpucheck.report import Report
from tests.gpucheck.subject import Subject

Measure = Callable[..., None]

GROUPS = ("calls", "signals", "energy", "run", "processes", "cost")
IN_PROCESS = ("calls", "signals", "energy")
"""These start no command of carbonmon: on a simulated machine they can be measured in virtual time."""

COMMAND_NEEDS = {"click": "click", "prometheus_client": "prometheus-client", "psutil": "psutil"}
NO_PYNVML = "pynvml is not there: pip install nvidia-ml-py; without it nothing can be measured"


def measure_of(group: str) -> Measure:
    """The function of a group, imported when it is needed: one that cannot be imported spoils no other."""
    if group == "calls":
        from tests.gpucheck.calls import measure
    elif group == "signals":
        from tests.gpucheck.signals import measure
    elif group == "energy":
        from tests.gpucheck.energy import measure
    elif group == "run":
        from tests.gpucheck.run import measure
    elif group == "processes":
        from tests.gpucheck.processes import measure
    else:
        from tests.gpucheck.cost import measure
    return measure


def take(subject: Subject, report: Report, groups: Sequence[str], written: Callable[[], None]) -> None:
    """Measure the groups one after the other; what fails in one is said, and the next one goes on."""
    report.gpu, report.load = f"{subject.name}", subject.load.kind if subject.load is not None else ""
    report.missing += [entry for entry in subject.missing if entry not in report.missing]
    absent = [name for module, name in COMMAND_NEEDS.items() if importlib.util.find_spec(module) is None]
    for group in groups:
        sys.stderr.write(f"gpu-check: {group} …\n")
        if group not in IN_PROCESS and absent:
            report.book.group = group
            report.book.missing("all of this group", f"carbonmon's commands need {', '.join(absent)}")
        else:
            try:
                measure_of(group)(subject, report.book, report.plan)
            except Exception as error:  # noqa: BLE001 (a machine for minutes: the other groups must still be measured)
                report.book.missing(f"the rest of {group}", f"{type(error).__name__}: {error}")
        written()


def what_is_missing(simulated: bool) -> Iterator[tuple[str, str]]:
    """Parts that this machine lacks, and what that costs."""
    for module, name, consequence in (
        ("pyRAPL", "pyRAPL", "CPU energy is not part of this check; carbonmon reads powercap's files itself"),
        *((module, name, "no command of carbonmon can be started") for module, name in COMMAND_NEEDS.items()),
    ):
        if importlib.util.find_spec(module) is None:
            yield name, consequence
    if os.geteuid() != 0:
        yield "root", "the power limit cannot be lowered"
    if not simulated and shutil.which("nvidia-smi") is None:
        yield "nvidia-smi", "nothing to compare with it"
    if shutil.which("unshare") is None:
        yield "unshare", "a container's view is not tried"


def driver_of(nvml: Any) -> str:
    try:
        return f"{nvml.nvmlSystemGetDriverVersion()}"
    except nvml.NVMLError:
        return ""


def is_simulated(nvml: Any) -> bool:
    """Whether the NVML of this process is the simulator's: a check inside a simulated machine says so."""
    return hasattr(nvml.nvmlLib, "sim_control_size")


def real_gpus(nvml: Any) -> tuple[int, str]:
    """How many GPUs NVML has, leaving it initialised if any; else 0 and why."""
    try:
        nvml.nvmlInit()
        count = int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        return 0, f"{error}"
    return count, "" if count else "NVML lists none"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpucheck", description=__doc__)
    parser.add_argument("--minutes", type=float, default=plans.DEFAULT_MINUTES, help="measure longer (3)")
    parser.add_argument("--quick", action="store_true", help="each step once and short: whether it works")
    parser.add_argument("--only", action="append", choices=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--gpu", type=int, default=0, metavar="INDEX", help="NVML's index (0)")
    parser.add_argument("--simulated", action="store_true", help="the simulated machine, even with a GPU")
    parser.add_argument(
        "--lower-power-limit",
        action="store_true",
        help="also measure under a lowered power limit; needs root, and it is set back",
    )
    parser.add_argument("--output", type=Path, default=Path("build/gpu-check"), metavar="DIR")
    return parser.parse_args(arguments)


@contextmanager
def signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind like Ctrl-C: loads are ended and a lowered power limit is set back."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    if importlib.util.find_spec("pynvml") is None:
        sys.stderr.write(f"gpu-check: {NO_PYNVML}\n")
        return 2
    import pynvml

    count, why = (0, "--simulated") if options.simulated else real_gpus(pynvml)
    simulated = count == 0 or is_simulated(pynvml)
    plan = plans.QUICK if options.quick else plans.DEFAULT.scaled(options.minutes)
    report = Report(plan, simulated)
    report.missing += what_is_missing(simulated)
    groups = [group for group in GROUPS if not options.only or group in options.only]

    def written() -> None:
        report.write(options.output)

    try:
        with signals_raise():
            if count:
                from tests.gpucheck.real import real_subject

                report.driver = driver_of(pynvml)
                with real_subject(pynvml, options.gpu, options.lower_power_limit) as subject:
                    take(subject, report, groups, written)
            elif not _take_simulated(report, groups, options.quick, written, why):
                return 2
        report.state = "finished"
    except (KeyboardInterrupt, SystemExit) as error:
        report.state = "interrupted"
        return 130 if isinstance(error, KeyboardInterrupt) else int(error.code or 0)
    except pynvml.NVMLError as error:
        sys.stderr.write(f"gpu-check: GPU {options.gpu}: {error}\n")
        return 2
    finally:
        if report.book.figures:
            paths = report.write(options.output)
            sys.stdout.write(paths[1].read_text(encoding="utf-8"))
            sys.stderr.write(f"gpu-check: {' and '.join(map(str, paths))}\n")
    return 1 if report.book.count(NOT_AS_EXPECTED) else 0


def _take_simulated(
    report: Report, groups: Sequence[str], quick: bool, written: Callable[[], None], why: str
) -> bool:
    """On the simulated machine; False if it cannot be built. With `quick` in virtual time what can be."""
    from tests.gpucheck.simulated import simulated_subject
    from tests.simulator import can_build

    if not can_build():
        sys.stderr.write(f"gpu-check: no GPU ({why}), and no gcc for the simulated one\n")
        return False
    report.missing.insert(0, ("a GPU", f"{why}; the simulated machine is checked instead"))
    first = [group for group in groups if quick and group in IN_PROCESS]
    plan, report.plan = report.plan, plans.DEFAULT if first else report.plan
    if first:
        with simulated_subject(virtual=True) as subject:
            report.driver = driver_of(subject.nvml)
            take(subject, report, first, written)
    report.plan = plan
    rest = [group for group in groups if group not in first]
    if rest:
        with simulated_subject() as subject:
            report.driver = driver_of(subject.nvml)
            take(subject, report, rest, written)
    return True


if __name__ == "__main__":
    sys.exit(main())

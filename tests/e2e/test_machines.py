"""`carbonmon run` and `doctor` on machines beyond NVIDIA and RAPL: the truth is in summary and /metrics."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from carbonmon.runs.report.markdown import markdown_text
from tests.simulator import Constant, Gpu, Package, Simulator, Sine, Square, boards
from tests.simulator.boards import MOMENT, amd_gpu, grace, intel_gpu
from tests.simulator.hwmon import Chip
from tests.support import command

pytestmark = pytest.mark.e2e

FAST = Square(60.0, 350.0, 0.05)
SWELL = Sine(200.0, 60.0, 6.0)
MI210 = "GPU-a0b1c2d3e4f50000"


class Machine(NamedTuple):
    """Its chips, the device that is counted with its component, and the channels that are its truth."""

    chips: Sequence[Chip]
    device: str
    component: str
    channels: Sequence[str]
    board: str = ""
    tolerance: float = 0.02


RAILS = [Sine(15.0, 5.0, 6.0), Sine(5.0, 2.0, 7.0), Sine(8.0, 2.0, 5.0), Sine(2.0, 0.5, 4.0)]
NAMES = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO")
CARD = "GPU-0000:10:00.0"
MACHINES = {
    "MI210": Machine([amd_gpu(0, FAST)], MI210, "gpu", [MI210]),
    "MI300X": Machine([amd_gpu(0, SWELL, model=boards.MI300X, level=MOMENT)], MI210, "gpu", [MI210]),
    "MI300A": Machine([amd_gpu(0, FAST, model=boards.MI300A)], "module-0", "module", ["module-0"]),
    "Ryzen": Machine(
        [amd_gpu(0, FAST, model=boards.RYZEN, is_integrated=True)], "package-0", "cpu", ["package-0"]
    ),
    "Arc B": Machine([intel_gpu(0, FAST, SWELL)], CARD, "gpu", [CARD], tolerance=0.002),
    "Arc A": Machine(
        [intel_gpu(0, FAST, labels=[""], driver="i915", model=boards.ARC_A770)],
        *(CARD, "gpu", [CARD]),
        tolerance=0.002,
    ),
    "Grace": Machine(grace(0, grace=SWELL, cpu=RAILS[0]), "grace-0", "module", ["grace-0"]),
    "Grace's rails": Machine(grace(0, cpu=SWELL, sysio=RAILS[0]), "package-0", "cpu", ["cpu-0", "sysio-0"]),
    "Orin Nano": Machine(
        [boards.orin_nano(RAILS[0], Constant(5.1), Constant(3.2))],
        "module-0",
        "module",
        ["VDD_IN"],
        boards.ORIN_NANO,
    ),
    "AGX Orin": Machine(boards.agx_orin(*RAILS), "module-0", "module", NAMES, boards.AGX_ORIN),
    "TX2": Machine(
        boards.tx2(RAILS[0], Constant(5.1), Constant(3.2)), "module-0", "module", ["VDD_IN"], boards.TX2
    ),
    "AGX Xavier": Machine(
        boards.agx_xavier(*[Sine(3.0, 1.0, 3.0 + place) for place in range(6)]),
        *("module-0", "module", ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"), boards.AGX_XAVIER),
    ),
    "Thor": Machine([boards.thor(RAILS[0])], "module-0", "module", ["module-0"], boards.THOR),
    "EPYC": Machine([boards.hsmp(0, SWELL)], "package-0", "cpu", ["package-0"]),
}


def unix_s(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_what_a_machine_drew_is_in_the_summary_and_in_the_metrics(machine: Machine, tmp_path: Path):
    with ExitStack() as stack:
        simulated = stack.enter_context(Simulator(chips=machine.chips, board=machine.board))

        def truth_j(begin_unix_s: float, end_unix_s: float) -> float:
            channels = [simulated.channels[name] for name in machine.channels]
            return sum(channel.energy_between_wall(begin_unix_s, end_unix_s) for channel in channels)

        options = ["run", "--idle", "exclusive", "--interval", "0.1", "--checkpoint", "0.2"]
        options += ["--sysfs", str(simulated.sysfs)]
        late = stack.enter_context(command.Lateness())
        run = command.start([*options, "--", *command.lasting(4.0)], tmp_path, stdin=subprocess.PIPE)
        address = command.metrics_address(run)
        pattern = rf'carbonmon_run_energy_joules_total{{.*device="{machine.device}".*}} (\S+)'

        def metrics() -> tuple[str, float] | None:
            text = command.get(address)
            found_j = sum(float(value) for value in re.findall(pattern, text))
            return (text, found_j) if found_j > truth_j(begin_s, begin_s + 1.0) else None

        begin_s = simulated.wall_s()
        text, seen_j = command.wait_for(metrics, "a second's energy in /metrics")
        sampled_s = re.search(r"^carbonmon_last_sample_timestamp_seconds (\S+)", text, re.MULTILINE)
        run.communicate(timeout=command.DEADLINE_S)
        assert run.returncode == 0
        summary = command.summary(tmp_path)
        devices = {device["id"]: device for device in summary["energy"]["devices"]}
        device = devices[machine.device]
        started_s, ended_s = (unix_s(summary["run"][name]) for name in ("started_at", "ended_at"))
        # Readings may be a little after the start and the end, or longer on a busy machine.
        edge_j = truth_j(started_s, started_s + late.edges_s)
        assert device["component"] == machine.component
        assert device["energy_j"] == pytest.approx(
            truth_j(started_s, ended_s), rel=machine.tolerance, abs=edge_j
        )
        assert "tdp" not in device["methods"], "it was measured all the time"
        assert sampled_s is not None
        assert seen_j == pytest.approx(
            truth_j(started_s, float(sampled_s[1])), rel=machine.tolerance, abs=edge_j
        )
        assert f"| {machine.device} |" in markdown_text(summary) or machine.component in markdown_text(
            summary
        )
        held = {"module": {"cpu", "dram", "gpu"}, "cpu": {"gpu"}, "gpu": set[str]()}[machine.component]
        assert held.isdisjoint(summary["energy"]["components"]), "nothing that it holds is counted beside it"


def test_doctor_says_of_every_meter_what_it_covers_and_which_one_counts(tmp_path: Path):
    chips = [*grace(0, module=SWELL, grace=SWELL, cpu=SWELL, sysio=SWELL), intel_gpu(0, FAST, SWELL)]
    chip = Gpu(name="NVIDIA GH200 480GB", superchip=1, rest=Constant(250.0))
    with Simulator(gpus=[chip], packages=[], chips=chips) as simulated:
        arguments = ["doctor", "--sysfs", str(simulated.sysfs)]
        done = command.run([*arguments, "--json"], tmp_path, env=simulated.environ)
        said = json.loads(done.stdout)
        table = command.run(arguments, tmp_path, env=simulated.environ).stdout
    assert [device["id"] for device in said["devices"]] == ["module-0", CARD]
    reasons = {source["source"]: source["reason"] for source in said["sources"]}
    for meter in ("module-socket-0", "grace-0", "package-0"):
        assert "is in module-0 (measured)" in reasons[f"hwmon {meter}"]
    assert reasons["hwmon"] == f"{CARD}: energy by xe energy1_input (card)"
    assert reasons["hwmon xe energy2_input (pkg)"] == f"{CARD} is read from xe energy1_input (card)"
    assert re.search(rf"gpu +\d {CARD}", table)


def test_gpus_that_hwmon_reads_are_not_said_to_be_unmetered(tmp_path: Path):
    with Simulator(chips=[amd_gpu(0, SWELL), intel_gpu(1, FAST, SWELL)], packages=[Package()]) as simulated:
        done = command.run(["doctor", "--json", "--sysfs", str(simulated.sysfs)], tmp_path)
    assert [source for source in json.loads(done.stdout)["sources"] if "unmetered" in source["source"]] == []

"""`carbonmon doctor` in the test's own process, on simulated and recorded machines."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from carbonmon import __version__
from carbonmon.cli import main
from carbonmon.hardware.gpu_selection import VARIABLES
from tests.simulator import Constant, Gpu, Mig, Package, Simulator, can_build
from tests.simulator.node import AcpiTree, CrayTree
from tests.support.recorded import RecordedMachine, recorded_machine
from tests.support.redfish import Bmc

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

OWN_LOGGERS = ("carbonmon", "carbonmon_exporters")

Doctor = Callable[..., Result]


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[RecordedMachine]:
    with recorded_machine(tmp_path) as machine:
        machine.memory(64 << 20)
        yield machine


@pytest.fixture
def doctor(recorded: RecordedMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doctor]:
    """Runs `carbonmon doctor` away from any configuration; the loggers are as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    loggers = [logging.getLogger(name) for name in OWN_LOGGERS]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]

    def doctor(machine: Simulator, *arguments: str, **environ: str) -> Result:
        machine.preload()
        roots = ["--sysfs", str(machine.sysfs), "--procfs", str(recorded.procfs)]
        return CliRunner().invoke(main, ["doctor", *roots, *arguments], env=environ)

    yield doctor
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def machine() -> Iterator[Simulator]:
    packages = [Package(dram=Constant(9), start_uj=10**9), Package(dram=Constant(9), dram_start_uj=10**8)]
    with Simulator(gpus=[Gpu(), Gpu()], packages=packages, psys=Constant(300)) as simulated:
        simulated.freeze()
        yield simulated


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def test_json_names_every_source_and_device_and_the_intensity(doctor: Doctor, machine: Simulator):
    said = document(doctor(machine, "--json", "--region", "FR"))
    assert (said["schema"], said["version"]) == ("carbonmon.doctor/1", __version__)
    assert said.keys() == {"schema", "version", "sources", "devices", "intensity"}
    states = {source["source"]: source["state"] for source in said["sources"]}
    states.pop("rapl share", None)  # where the tests run in a virtual machine
    assert states == {
        "nvml": "used",
        "rapl": "used",
        "rapl psys": "not used",
        "amdsmi": "not used",
        "hwmon": "not used",
        "gaudi": "not used",
        "levelzero": "not used",
        "tpu": "not used",
        "neuron": "not used",
        "tdp": "used",
        "dram": "not used",
        "node meter acpi": "not used",
        "node meter cray": "not used",
    }
    for source in said["sources"]:
        assert source.keys() == {"source", "state", "reason", "remedy"}
        assert source["reason"]
    assert [(device["component"], device["methods"]) for device in said["devices"]] == [
        ("gpu", ["counter", "power", "tdp"]),
        ("gpu", ["counter", "power", "tdp"]),
        ("cpu", ["counter", "tdp"]),
        ("dram", ["counter"]),
        ("cpu", ["counter", "tdp"]),
        ("dram", ["counter"]),
    ]
    assert {device["tdp_w"] for device in said["devices"]} == {400.0, 150.0, None}
    intensity = said["intensity"]
    assert (intensity["zone"], intensity["kind"]) == ("FR", "table")
    assert 10.0 < intensity["g_per_kwh"] < 100.0


def test_a_bare_machine_is_estimated_and_each_absent_source_has_its_remedy(doctor: Doctor):
    with Simulator() as machine:
        machine.fault(init_error=9)
        said = document(doctor(machine, "--json", "--no-dram-estimate"))
    absent = {source["source"]: source for source in said["sources"] if source["state"] == "not used"}
    libraries = {"amdsmi", "gaudi", "levelzero", "tpu", "neuron"}
    assert absent.keys() == {
        "nvml",
        "rapl",
        "hwmon",
        "dram",
        *libraries,
        "node meter acpi",
        "node meter cray",
    }
    assert "modprobe nvidia" in absent["nvml"]["remedy"]
    assert "modprobe intel_rapl_msr" in absent["rapl"]["remedy"]
    assert absent["dram"] == {
        "source": "dram",
        "state": "not used",
        "reason": "left out by --no-dram-estimate",
        "remedy": None,
    }
    assert [(device["id"], device["methods"]) for device in said["devices"]] == [("package-0", ["tdp"])]


def test_the_table_shows_reasons_remedies_ladders_and_the_intensity(doctor: Doctor, machine: Simulator):
    machine.fault(init_error=18)
    result = doctor(machine, "--intensity", "123.4")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["SOURCE", "STATE", "REASON"]
    nvml = next(number for number, line in enumerate(lines) if line.startswith("nvml "))
    assert "mismatch" in lines[nvml]
    assert "mend it:" in lines[nvml + 1] and "sudo reboot" in lines[nvml + 1]
    assert any("package-0" in line and "counter → tdp" in line for line in lines)
    assert lines[-1].startswith("INTENSITY 123.4 gCO2e/kWh, fixed")


def test_the_job_s_choice_of_gpus_is_looked_at_as_a_run_would(doctor: Doctor, machine: Simulator):
    uuid = machine.gpus[1].uuid
    said = document(doctor(machine, "--json", CUDA_VISIBLE_DEVICES=uuid))
    assert [device["id"] for device in said["devices"] if device["component"] == "gpu"] == [uuid]
    refused = doctor(machine, "--json", "--gpus", "0,9", CUDA_VISIBLE_DEVICES=uuid)
    assert refused.exit_code == 2
    assert (
        f"--gpus 9: no such GPU here; there are 0 {machine.gpus[0].uuid[:12]}, 1 {uuid[:12]}"
        in refused.stderr
    )


def test_a_gpu_in_mig_mode_is_listed_once(doctor: Doctor):
    with Simulator(gpus=[Gpu(mig=[Mig(), Mig()])]) as machine:
        said = document(doctor(machine, "--json"))
        assert [device["id"] for device in said["devices"]][:1] == [machine.gpus[0].uuid]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--cpu-model", "Xeon Gold 6199Q"], "the table has no CPU"),
        (["--sensor", "tdp", "--gpu-model", "H1OO PCIe:2"], "the table has no GPU"),
        (["--sensor", "tdp", "--gpu-model", "A100:many"], "'many' behind the colon is no count"),
        (["--sensor", "nvml,raple"], "did you mean rapl?"),
        (["--sensor", "replay:nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_a_mistake_in_the_user_s_words_is_an_error_that_helps_and_no_crash(
    doctor: Doctor, machine: Simulator, arguments: list[str], expected: str
):
    result = doctor(machine, *arguments)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert result.stdout == ""


def test_a_sensor_that_crashes_at_its_opening_is_a_reason_and_the_others_serve(
    doctor: Doctor, machine: Simulator, monkeypatch: pytest.MonkeyPatch
):
    def broken(root: Path) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("carbonmon.hardware.sensors.rapl.discover", broken)
    result = doctor(machine, "--json")
    assert result.exit_code == 0
    assert "sensor rapl cannot be opened" in result.stderr
    said = json.loads(result.stdout)
    (rapl,) = [source for source in said["sources"] if source["source"] == "rapl"]
    assert (rapl["state"], rapl["reason"]) == ("not used", "ZeroDivisionError: a bug")
    assert [device["id"] for device in said["devices"]][2:] == ["package-0", "package-1", "dram-0"]


def test_a_module_says_what_it_contains_and_what_it_holds_is_left_out(doctor: Doctor):
    chip = Gpu(name="NVIDIA GH200 480GB", superchip=1)
    with Simulator(gpus=[chip]) as machine:
        lines = doctor(machine, "--sensor", "nvml,tdp,dram").stdout.splitlines()
        said = document(doctor(machine, "--json", "--sensor", "nvml,tdp,dram", "--node-meter", ""))
        uuid = machine.gpus[0].uuid
    assert [line.split()[1] for line in lines if line.startswith("module ")] == ["module-0"]
    assert f"  module-0 contains: gpu {uuid}, all cpu, all dram" in lines
    (device,) = said["devices"]
    assert device["contains"][0] == {"component": "gpu", "number": None, "device_id": uuid}
    left_out = {source["source"]: source for source in said["sources"] if source["state"] == "not used"}
    assert left_out.keys() == {f"nvml {uuid}", "tdp", "dram"}
    assert all("is in module-0 (measured)" in source["reason"] for source in left_out.values())


def test_node_meters_are_listed_with_what_they_say_now_or_why_not(doctor: Doctor, machine: Simulator):
    AcpiTree(machine.sysfs, Constant(734.0))
    CrayTree(machine.sysfs, Constant(900.0))
    with Bmc() as bmc:
        bmc.metrics = {}
        url = bmc.server.url
        said = document(doctor(machine, "--json", "--node-meter", f"acpi,cray,redfish:{url},ipmi:/dev/none"))
    sources = {each["source"]: each for each in said["sources"] if each["source"].startswith("node meter ")}
    assert sources["node meter acpi"]["reason"] == "ACPI power meter ACPI000D:00: mean power, 734 W now"
    assert sources["node meter cray"]["reason"].endswith("energy counter of the node, 900 W now")
    assert {name: each["state"] for name, each in sources.items()} == {
        "node meter acpi": "used",
        "node meter cray": "used",
        "node meter redfish": "not used",
        "node meter ipmi": "not used",
    }
    assert (
        "it asks for an account: give redfish:https://USER@127.0.0.1"
        in sources["node meter redfish"]["reason"]
    )
    assert sources["node meter ipmi"]["remedy"].startswith("sudo modprobe ipmi_devintf")
    assert all(device["component"] in ("gpu", "cpu", "dram") for device in said["devices"])


def test_accelerators_that_nobody_reads_are_listed(doctor: Doctor, machine: Simulator):
    for index in range(8):
        device = machine.sysfs / f"class/drm/card{index}/device"
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x1002\n")
    said = document(doctor(machine, "--json"))
    (source,) = [source for source in said["sources"] if source["source"] == "unmetered AMD GPU"]
    assert source["reason"] == "8 AMD GPUs are here and not counted: no sensor reads them"
    assert "--gpu-model" in source["remedy"]

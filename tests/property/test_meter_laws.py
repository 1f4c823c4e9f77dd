"""Laws of real meters together: whichever of them a machine has, no joule is counted twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.config import Config
from carbonmon.core.model import Device
from carbonmon.service.open_sensors import open_sensors
from tests.simulator import Constant, Gpu, Package, Simulator, Sine, boards, can_build
from tests.simulator.cards import gaudi, max_1550
from tests.support.effort import examples

pytestmark = pytest.mark.skipif(not can_build(), reason="the simulator needs gcc")

SWELL = Sine(200.0, 60.0, 20.0)
METERS = ("module", "grace", "cpu", "sysio")
orders = st.permutations(("nvml", "rapl", "hwmon")).map(lambda names: (*names, "tdp", "dram"))
few = examples(25)


@contextmanager
def counted(machine: Simulator, sensors: tuple[str, ...]) -> Iterator[dict[str, Device]]:
    machine.preload()
    machine.freeze()
    with ExitStack() as closing:
        yield open_sensors(Config(sysfs=machine.sysfs, sensors=sensors), {}, closing).devices


def pieces(device: Device, gpus: list[str]) -> set[str]:
    """The pieces of a Grace machine of one socket that a device of this id really measures."""
    cpu, memory = {"cores", "sysio"}, {"memory"}
    found: dict[str, set[str]] = {
        "module-socket-0": {*gpus, *cpu, *memory},
        "module-0": {*gpus, *cpu, *memory},
        "grace-0": cpu | memory,
        "package-0": cpu,
        "dram-0": memory,
    }
    return found.get(device.id) or {device.id}


@examples(8)
@given(
    sensors=st.permutations(("hwmon", "levelzero", "gaudi", "tdp")).map(tuple),
    by_hwmon=st.sets(st.sampled_from((0, 1, 2))),
    by_library=st.sets(st.sampled_from((0, 1, 2))),
    denied=st.sets(st.sampled_from((0, 1, 2))),
)
def test_a_card_that_kernel_and_library_tell_is_one_device_by_one_of_them(
    sensors: tuple[str, ...], by_hwmon: set[int], by_library: set[int], denied: set[int]
):
    chips = [boards.intel_gpu(0x30 + place, SWELL, labels=["pkg"], start_uj=10**9) for place in by_hwmon]
    intel = [max_1550(place, SWELL) for place in by_library]
    with Simulator(gpus=[], chips=chips, packages=[], cards=[*intel, gaudi(0, SWELL)]) as machine:
        for card in machine.cards:
            card.fault(no_permission=card.spec.bus - 0x40 in denied)
        with counted(machine, sensors) as devices:
            metered = by_hwmon | (by_library - denied)
            expected = {f"GPU-{boards.address(0x30 + place)}" for place in metered} | {"GPU-0000:20:00.0"}
            assert {name for name in devices if name.startswith("GPU-")} == expected
            for place in by_hwmon & by_library:
                first = next(name for name in sensors if name in ("hwmon", "levelzero"))
                by_kernel = first == "hwmon" or place in denied
                device = devices[f"GPU-{boards.address(0x30 + place)}"]
                assert (device.counter_range_uj is not None) is by_kernel, (
                    "by one of the two, the first that can"
                )


@few
@given(
    meters=st.sets(st.sampled_from(METERS)),
    superchip=st.sampled_from((None, 1, 2)),
    sensors=orders,
    has_counter=st.booleans(),
)
def test_no_piece_of_a_grace_machine_is_in_two_devices(
    meters: set[str], superchip: int | None, sensors: tuple[str, ...], has_counter: bool
):
    chips = boards.grace(0, **{name: SWELL for name in METERS if name in meters})
    gpus = [] if superchip is None else [Gpu(name="NVIDIA GH200 480GB", superchip=superchip)]
    with Simulator(gpus=gpus, chips=chips, packages=[]) as machine:
        for gpu in machine.gpus:
            gpu.fault(no_counter=not has_counter)
        with counted(machine, sensors) as devices:
            names = [gpu.uuid for gpu in machine.gpus]
            times = Counter(piece for device in devices.values() for piece in pieces(device, names))
    assert all(count == 1 for count in times.values()), (times, list(devices))
    assert {*names, "cores", "memory"} <= times.keys(), "nothing disappears"


@few
@given(
    rapl=st.sampled_from(("none", "packages", "dies")),
    hsmp=st.booleans(),
    apu=st.booleans(),
    sensors=orders,
)
def test_a_package_of_amd_is_one_device_or_its_dies(
    rapl: str, hsmp: bool, apu: bool, sensors: tuple[str, ...]
):
    dies = (0, 1) if rapl == "dies" else (None,)
    packages = [
        Package(Constant(50.0 + 20 * place), socket=0, die=die, start_uj=10**9 * (place + 1))
        for place, die in enumerate(dies)
    ]
    chips = [boards.hsmp(0, SWELL)] * hsmp
    if apu and not hsmp:
        chips = [boards.amd_gpu(0, SWELL, model=boards.RYZEN, is_integrated=True)]
    with Simulator(chips=chips, packages=[] if rapl == "none" else packages) as machine:
        with counted(machine, sensors) as devices:
            found = [name for name in devices if name.startswith("package")]
    whole, parts = ["package-0"], ["package-0-die-0", "package-0-die-1"]
    assert found in (whole, parts), found
    assert all(devices[name].is_measured for name in found) or not (chips or rapl != "none")

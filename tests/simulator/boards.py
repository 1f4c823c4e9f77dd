"""The machines beyond NVIDIA and RAPL that the tests simulate, each as its kernel's drivers show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulator.hwmon import Channel, Chip
from tests.simulator.powercap import Level
from tests.simulator.profiles import Constant, Profile, Sine, Square

AVERAGE = Level(window_s=1.0)
MOMENT = Level()
GRACE_AVERAGE = Level(window_s=0.05)

MI210, MI300X, MI300A, RYZEN = "0x740f", "0x74a1", "0x74a0", "0x1681"
ARC_A770, MAX_1550, ARC_B580 = "0x56a0", "0x0bd5", "0xe20b"


def address(place: int) -> str:
    """The PCI address of the card at this place: the places are in PCI order."""
    return f"0000:{0x10 + place:02x}:00.0"


def amd_gpu(
    place: int,
    profile: Profile,
    *,
    model: str = MI210,
    level: Level = AVERAGE,
    cap_w: float = 300.0,
    busy: int | None = 50,
    unique_id: str | None = "",
    is_integrated: bool = False,
) -> Chip:
    """A GPU by amdgpu, whose key is its device's id: an average, or with `MOMENT` what MI300 shows."""
    own_id = f"{0xA0B1C2D3E4F50000 + place:016x}" if unique_id == "" else unique_id
    files = {"vendor": "0x1002", "device": model, "power/runtime_status": "active", "power_state": "D0"}
    if own_id is not None:
        files["unique_id"] = own_id
    if busy is not None:
        files["gpu_busy_percent"] = f"{busy}"
        if not is_integrated:
            files["mem_busy_percent"] = "20"
    key = "package-0" if is_integrated else f"GPU-{own_id or address(place)}"
    if model == MI300A:
        key = f"module-{place}"
    file = "power1_average" if level.window_s else "power1_input"
    return Chip(
        "amdgpu",
        f"pci0000:00/{address(place)}",
        [Channel(key, file, profile, level), Channel(f"{key} fast", "power2_average", profile, AVERAGE)],
        {
            "power1_label": "PPT",
            "power1_cap": f"{cap_w * 1e6:.0f}",
            "power2_label": "fastPPT",
            "power2_cap": f"{2 * cap_w * 1e6:.0f}",
        },
        files,
        card=True,
    )


def intel_gpu(
    place: int,
    *profiles: Profile,
    driver: str = "xe",
    model: str = ARC_B580,
    labels: Sequence[str] = ("card", "pkg"),
    start_uj: int = 0,
) -> Chip:
    """A GPU by i915 or xe, of a profile for each label; the first one's key is the device's id.

    The label `""` is a channel without one.
    """
    numbers = {"card": 1, "pkg": 2, "": 1}
    channels, files = [], {"power1_rated_max": "190000000", "power1_crit": "350000000"}
    for index, (label, profile) in enumerate(zip(labels, profiles, strict=True)):
        key = f"GPU-{address(place)}" + (f" {label}" if index else "")
        channels.append(Channel(key, f"energy{numbers[label]}_input", profile, start_uj=start_uj))
        if label:
            files[f"energy{numbers[label]}_label"] = label
    device_files = {
        "vendor": "0x8086",
        "device": model,
        "power/runtime_status": "active",
        "power_state": "D0",
    }
    return Chip(driver, f"pci0000:00/{address(place)}", channels, files, device_files, card=True)


def grace(socket: int, **profiles: Profile) -> list[Chip]:
    """The four power meters of a Grace socket: `module`, `grace`, `cpu`, `sysio`, those that are given."""
    labels = {"module": "Module", "grace": "Grace", "cpu": "CPU", "sysio": "SysIO"}
    keys = {"module": "module-socket", "grace": "grace", "cpu": "cpu", "sysio": "sysio"}
    return [
        Chip(
            "power_meter",
            f"LNXSYSTM:00/LNXSYBUS:00/ACPI000D:{4 * socket + place:02x}",
            [Channel(f"{keys[name]}-{socket}", "power1_average", profile, GRACE_AVERAGE, on_device=True)],
            {},
            {
                "power1_oem_info": f"{labels[name]} Power Socket {socket}",
                "power1_average_interval": "50",
                "power1_is_battery": "0",
                "power1_accuracy": "90.0%",
                "power1_cap_min": "unknown",
            },
        )
        for place, (name, profile) in enumerate(profiles.items())
    ]


def node_meter(profile: Profile) -> Chip:
    """An ACPI power meter of the whole node, which is no device."""
    return Chip(
        "power_meter",
        "LNXSYSTM:00/LNXSYBUS:00/ACPI000D:7f",
        [Channel("node", "power1_average", profile, AVERAGE, on_device=True)],
        {},
        {"power1_oem_info": "", "power1_average_interval": "1000"},
    )


def ina3221(address: str, rails: Sequence[tuple[str, float, Profile | None]]) -> Chip:
    """Jetson's meter of rails: label, volts and power of each; None is a channel that is switched off."""
    files = {"in7_label": "sum of shunt voltages", "in7_input": "40", "curr4_input": "4000"}
    channels = []
    for number, (label, volts, profile) in enumerate(rails, start=1):
        files |= {
            f"in{number}_label": label,
            f"in{number}_input": f"{volts * 1000:.0f}",
            f"in{number}_enable": "0" if profile is None else "1",
            f"in{number + 3}_input": "3000",
        }
        if profile is not None:
            level = Level(scale=1000.0 / volts, step=1.0)
            channels.append(Channel(label, f"curr{number}_input", profile, level))
    return Chip("ina3221", f"platform/bus@0/c240000.i2c/i2c-1/{address}", channels, files)


def orin_nano(total: Profile, gpu_cpu: Profile, soc: Profile) -> Chip:
    return ina3221(
        "1-0040", [("VDD_IN", 19.0, total), ("VDD_CPU_GPU_CV", 19.0, gpu_cpu), ("VDD_SOC", 19.0, soc)]
    )


def agx_orin(*rails: Profile) -> list[Chip]:
    """The four rails of AGX Orin, which has no meter of its input."""
    first = [("VDD_GPU_SOC", 19.0), ("VDD_CPU_CV", 19.0), ("VIN_SYS_5V0", 5.0)]
    return [
        ina3221("1-0040", [(*rail, profile) for rail, profile in zip(first, rails[:3], strict=True)]),
        ina3221("1-0041", [("NC", 5.0, None), ("VDDQ_VDD2_1V8AO", 1.8, rails[3])]),
    ]


def ina3221x(address: str, rails: Sequence[tuple[str, Profile]]) -> Chip:
    """The same meter of an older board, by NVIDIA's own driver: label and power of each rail, in mW."""
    channels = [
        Channel(label, f"in_power{number}_input", profile, Level(scale=1000.0))
        for number, (label, profile) in enumerate(rails)
    ]
    files = {f"rail_name_{number}": label for number, (label, _) in enumerate(rails)}
    files |= {f"in_voltage{number}_input": "5000" for number in range(3)}
    return Chip("ina3221x", f"platform/3160000.i2c/i2c-0/{address}", channels, files, iio=True)


def tx2(total: Profile, gpu: Profile, cpu: Profile) -> list[Chip]:
    """The meters of a TX2: only the second one has the input."""
    rest = Constant(0.4)
    return [
        ina3221x("0-0040", [("VDD_SYS_GPU", gpu), ("VDD_SYS_SOC", rest), ("VDD_4V0_WIFI", rest)]),
        ina3221x("0-0041", [("VDD_IN", total), ("VDD_SYS_CPU", cpu), ("VDD_SYS_DDR", rest)]),
    ]


def agx_xavier(*rails: Profile) -> list[Chip]:
    """The six rails of AGX Xavier, which has no meter of its input."""
    names = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
    named = list(zip(names, rails, strict=True))
    return [ina3221x("1-0040", named[:3]), ina3221x("1-0041", named[3:])]


def thor(total: Profile) -> Chip:
    return Chip(
        "ina238",
        "platform/bus@0/c600000.i2c/i2c-2/2-0044",
        [Channel("module-0", "power1_input", total, MOMENT)],
        {"in1_input": "19000", "curr1_input": "2000"},
    )


def hsmp(socket: int, profile: Profile) -> Chip:
    """The power of an EPYC's socket; both sockets' chips are of one device."""
    return Chip(
        "amd_hsmp_hwmon",
        "platform/amd_hsmp",
        [Channel(f"package-{socket}", "power1_input", profile, MOMENT)],
        {"power1_cap": "400000000", "power1_cap_max": "400000000"},
    )


TX2, AGX_XAVIER = "quill", "NVIDIA Jetson AGX Xavier Developer Kit"
ORIN_NANO, AGX_ORIN, THOR = (
    f"NVIDIA Jetson {name} Developer Kit" for name in ("Orin Nano", "AGX Orin", "AGX Thor")
)
_WAVE, _SWELL = Square(60.0, 350.0, 0.7), Sine(200.0, 60.0, 6.0)
_RAILS = [Sine(15.0, 5.0, 6.0), Sine(5.0, 2.0, 7.0), Sine(8.0, 2.0, 5.0), Sine(2.0, 0.5, 4.0)]

MACHINES: dict[str, Callable[[], tuple[list[Chip], str]]] = {
    "mi210": lambda: ([amd_gpu(place, _WAVE) for place in range(4)], ""),
    "mi300x": lambda: ([amd_gpu(place, _SWELL, model=MI300X, level=MOMENT) for place in range(8)], ""),
    "mi300a": lambda: ([amd_gpu(0, _SWELL, model=MI300A)], ""),
    "arc": lambda: ([intel_gpu(0, _WAVE, _SWELL)], ""),
    "max": lambda: ([intel_gpu(place, _WAVE, labels=["pkg"], model=MAX_1550) for place in range(4)], ""),
    "grace": lambda: (grace(0, module=_SWELL, grace=_SWELL, cpu=_RAILS[0], sysio=_RAILS[1]), ""),
    "orin-nano": lambda: ([orin_nano(_RAILS[0], _RAILS[1], _RAILS[3])], ORIN_NANO),
    "agx-orin": lambda: (agx_orin(*_RAILS), AGX_ORIN),
    "thor": lambda: ([thor(_RAILS[0])], THOR),
    "epyc": lambda: ([hsmp(0, _SWELL), hsmp(1, _SWELL)], ""),
}
"""Chips and board by a name for the command line of the simulator."""

"""What each channel of each known chip of hwmon measures. A new chip of a kind that is here is a row.

Files are those of Linux, Documentation/hwmon/sysfs-interface.rst: power in µW, energy in µJ, voltage in mV,
current in mA. `#` stands for the channel's number. Of the rows that give one and the same device the first
that a machine has is read, and the others are left out: their energy is in it.
"""

from __future__ import annotations

from typing import Literal

from carbonmon.core.records import NamedTuple

Measures = Literal["gpu", "package", "grace", "superchip", "board"]
"""What a channel measures: a graphics card; a CPU package; a Grace CPU with its memory; a Grace CPU with its
memory and GPUs; an embedded board as a whole."""


class Row(NamedTuple):
    """One kind of channel of one chip.

    `files` are those that hold it; the first that is there is read. `label` is a pattern of its label, whose
    group is the socket's number; "" is a channel without a label, None any. `times` is a file to multiply
    with. `unit_uw` is a unit of the power in µW. `parts` are channels that are the device only together: how
    many. `limits` hold power limits in µW. `range_uj` is the range of the register behind a counter, which
    the driver adds up only when it is read.
    """

    chip: str
    measures: Measures
    files: tuple[str, ...]
    label: str | None = None
    label_file: str = "power#_label"
    times: str = ""
    unit_uw: int = 1
    parts: int = 1
    limits: tuple[str, ...] = ()
    range_uj: int | None = None


INTEL_RANGE_UJ = 2**32 * 1_000_000 // 2**14
"""i915 and xe read 32 bits of 2⁻¹⁴ J, 262 kJ (Linux, drivers/gpu/drm/i915/i915_hwmon.c: hwm_energy)."""

_INTEL_LIMITS = ("power1_max", "power1_rated_max", "power2_max", "power2_rated_max")
_AVERAGES = ("power#_average",)
_RAIL = "in#_label", "curr#_input"
_INPUT = "VDD_IN|POM_5V_IN|VIN"
_XAVIER_RAILS = "GPU|CPU|SOC|CV|VDDRQ|SYS5V"
"""Those of AGX Xavier, which has no meter of its input (NVIDIA, DG-09840-001, "Power Monitor")."""

_IIO_POWER = ("in_power#_input",)

ROWS = (
    # Linux 6.6 and later have both files where a board has both; MI200 has the first, MI300 the second. The
    # second channel, fastPPT, is another limit of the same sensor.
    Row("amdgpu", "gpu", ("power1_average", "power1_input"), limits=("power1_cap_max", "power1_cap")),
    Row("i915", "gpu", ("energy1_input",), limits=_INTEL_LIMITS, range_uj=INTEL_RANGE_UJ),
    Row(
        "xe",
        "gpu",
        ("energy#_input",),
        "card",
        "energy#_label",
        limits=_INTEL_LIMITS,
        range_uj=INTEL_RANGE_UJ,
    ),
    Row(
        "xe", "gpu", ("energy#_input",), "pkg", "energy#_label", limits=_INTEL_LIMITS, range_uj=INTEL_RANGE_UJ
    ),
    Row("xe", "gpu", ("energy1_input",), "", "energy#_label", limits=_INTEL_LIMITS, range_uj=INTEL_RANGE_UJ),
    Row("amd_hsmp_hwmon", "package", ("power1_input",), limits=("power1_cap_max", "power1_cap")),
    Row("power_meter", "superchip", _AVERAGES, r"Module Power Socket ([0-9]{1,3})", "power#_oem_info"),
    Row("power_meter", "grace", _AVERAGES, r"Grace Power Socket ([0-9]{1,3})", "power#_oem_info"),
    Row(
        *("power_meter", "package", _AVERAGES, r"(?:CPU|SysIO) Power Socket ([0-9]{1,3})", "power#_oem_info"),
        parts=2,
    ),
    # Jetson: Thor's input, that of other boards, and the rails of AGX Orin, which has no meter of its input.
    Row("ina238", "board", ("power1_input",), ""),
    Row("ina3221", "board", ("in#_input",), _INPUT, *_RAIL),
    Row(
        "ina3221",
        "board",
        ("in#_input",),
        "VDD_GPU_SOC|VDD_CPU_CV|VIN_SYS_5V0|VDDQ_VDD2_1V8AO",
        *_RAIL,
        parts=4,
    ),
    Row("ina3221", "board", ("in#_input",), _XAVIER_RAILS, *_RAIL, parts=6),
    Row("ina3221x", "board", _IIO_POWER, _INPUT, "rail_name_#", unit_uw=1000),
    Row("ina3221x", "board", _IIO_POWER, _XAVIER_RAILS, "rail_name_#", unit_uw=1000, parts=6),
)

CHIPS = frozenset(row.chip for row in ROWS)

"""The calls, with the structs of ROCm 7.0; answers name their entries as the structs name their fields."""

from __future__ import annotations

import ctypes
import os
from typing import Any

U32, U64 = ctypes.c_uint32, ctypes.c_uint64
Handle = ctypes.c_void_p
NAMES = (
    "amdsmi_init",
    "amdsmi_shut_down",
    "amdsmi_get_lib_version",
    "amdsmi_get_socket_handles",
    "amdsmi_get_processor_handles",
    "amdsmi_get_gpu_device_bdf",
    "amdsmi_get_energy_count",
    "amdsmi_get_power_info",
    "amdsmi_get_power_cap_info",
    "amdsmi_get_gpu_activity",
    "amdsmi_get_gpu_process_list",
    "amdsmi_get_gpu_enumeration_info",
    "amdsmi_get_gpu_asic_info",
)
"""The functions that are bound at import: a library without one raises AttributeError."""

_libraries: dict[str, ctypes.CDLL] = {}
try:
    _rocm = os.getenv("ROCM_HOME", os.getenv("ROCM_PATH", "/opt/rocm"))
    _libraries["libamd_smi.so"] = ctypes.CDLL(f"{_rocm}/lib/libamd_smi.so")
except OSError as error:
    print(error)  # noqa: T201 (so does ROCm's package)
    print("Unable to find libamd_smi.so library")  # noqa: T201
_functions = {name: getattr(_libraries["libamd_smi.so"], name) for name in NAMES}


class AmdSmiException(Exception):
    pass


class AmdSmiLibraryException(AmdSmiException):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.err_code = code
        self.err_info = f"AMDSMI_STATUS {code}"

    def get_error_code(self) -> int:
        return self.err_code


class AmdSmiParameterException(AmdSmiException):
    pass


class Version(ctypes.Structure):
    _fields_ = (
        ("major", U32),
        ("minor", U32),
        ("release", U32),
        ("padding", U32),
        ("build", ctypes.c_char_p),
    )


class PowerInfo(ctypes.Structure):
    _fields_ = (
        ("socket_power", U64),
        ("current_socket_power", U32),
        ("average_socket_power", U32),
        ("gfx_voltage", U64),
        ("soc_voltage", U64),
        ("mem_voltage", U64),
        ("power_limit", U32),
        ("padding", U32),
        ("reserved", U64 * 18),
    )


class PowerCapInfo(ctypes.Structure):
    _fields_ = (
        ("power_cap", U64),
        ("default_power_cap", U64),
        ("dpm_cap", U64),
        ("min_power_cap", U64),
        ("max_power_cap", U64),
        ("reserved", U64 * 3),
    )


class EngineUsage(ctypes.Structure):
    _fields_ = (("gfx_activity", U32), ("umc_activity", U32), ("mm_activity", U32), ("reserved", U32 * 13))


class ProcInfo(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 256),
        ("pid", U32),
        ("padding", U32),
        ("mem", U64),
        ("gfx", U64),
        ("enc", U64),
        ("reserved_of_engines", U32 * 12),
        ("gtt_mem", U64),
        ("cpu_mem", U64),
        ("vram_mem", U64),
        ("reserved_of_memory", U32 * 10),
        ("container_name", ctypes.c_char * 256),
        ("cu_occupancy", U32),
        ("reserved", U32 * 11),
    )


class EnumerationInfo(ctypes.Structure):
    _fields_ = (
        ("drm_render", U32),
        ("drm_card", U32),
        ("hsa_id", U32),
        ("hip_id", U32),
        ("hip_uuid", ctypes.c_char * 256),
    )


class AsicInfo(ctypes.Structure):
    _fields_ = (
        ("market_name", ctypes.c_char * 256),
        ("vendor_id", U32),
        ("vendor_name", ctypes.c_char * 256),
        ("subvendor_id", U32),
        ("device_id", U64),
        ("rev_id", U32),
        ("asic_serial", ctypes.c_char * 256),
        ("oam_id", U32),
        ("num_of_compute_units", U32),
        ("padding", U32),
        ("target_graphics_version", U64),
        ("subsystem_id", U32),
        ("reserved", U32 * 21),
    )


def _check(code: int) -> None:
    if code:
        raise AmdSmiLibraryException(code)


def _ask(name: str, handle: Any, *arguments: Any) -> None:
    if not isinstance(handle, Handle):
        raise AmdSmiParameterException(f"{type(handle)} is no handle")
    _check(_functions[name](handle, *arguments))


def _answer(entries: dict[str, Any]) -> dict[str, Any]:
    return {key: "N/A" if value == 0xFFFF else value for key, value in entries.items()}


def _fields(struct: ctypes.Structure, *names: str) -> dict[str, Any]:
    return _answer({name: getattr(struct, name) for name in names})


def amdsmi_init(flag: int = 2) -> None:
    _check(_functions["amdsmi_init"](U64(flag)))


def amdsmi_shut_down() -> None:
    _check(_functions["amdsmi_shut_down"]())


def amdsmi_get_lib_version() -> dict[str, Any]:
    version = Version()
    _check(_functions["amdsmi_get_lib_version"](ctypes.byref(version)))
    return {"major": version.major, "minor": version.minor, "release": version.release, "build": "simulator"}


def _handles(name: str, *first: Any) -> list[Handle]:
    count = U32()
    _check(_functions[name](*first, ctypes.byref(count), None))
    found = (Handle * count.value)()
    _check(_functions[name](*first, ctypes.byref(count), found))
    return [Handle(value) for value in found]


def amdsmi_get_processor_handles() -> list[Handle]:
    sockets = _handles("amdsmi_get_socket_handles")
    return [handle for socket in sockets for handle in _handles("amdsmi_get_processor_handles", socket)]


def amdsmi_get_gpu_device_bdf(handle: Any) -> str:
    bdf = U64()
    _ask("amdsmi_get_gpu_device_bdf", handle, ctypes.byref(bdf))
    number = bdf.value
    return f"{number >> 16:04x}:{number >> 8 & 0xFF:02x}:{number >> 3 & 0x1F:02x}.{number & 7:x}"


def amdsmi_get_energy_count(handle: Any) -> dict[str, Any]:
    count, unit, stamp = U64(), ctypes.c_float(), U64()
    _ask("amdsmi_get_energy_count", handle, *map(ctypes.byref, (count, unit, stamp)))
    return {"energy_accumulator": count.value, "counter_resolution": unit.value, "timestamp": stamp.value}


def amdsmi_get_power_info(handle: Any) -> dict[str, Any]:
    info = PowerInfo()
    _ask("amdsmi_get_power_info", handle, ctypes.byref(info))
    return _fields(info, *(name for name, _ in PowerInfo._fields_[:7]))


def amdsmi_get_power_cap_info(handle: Any) -> dict[str, Any]:
    info = PowerCapInfo()
    _ask("amdsmi_get_power_cap_info", handle, U32(0), ctypes.byref(info))
    return {name: getattr(info, name) for name, _ in PowerCapInfo._fields_[:5]}


def amdsmi_get_gpu_activity(handle: Any) -> dict[str, Any]:
    usage = EngineUsage()
    _ask("amdsmi_get_gpu_activity", handle, ctypes.byref(usage))
    return _fields(usage, "gfx_activity", "umc_activity", "mm_activity")


def amdsmi_get_gpu_process_list(handle: Any) -> list[dict[str, Any]]:
    count = U32(1024)
    listed = (ProcInfo * count.value)()
    _ask("amdsmi_get_gpu_process_list", handle, ctypes.byref(count), listed)
    return [
        {
            "name": each.name.decode() or "N/A",
            "pid": each.pid,
            "mem": each.mem,
            "engine_usage": {"gfx": each.gfx, "enc": each.enc},
            "memory_usage": {"gtt_mem": each.gtt_mem, "cpu_mem": each.cpu_mem, "vram_mem": each.vram_mem},
            "cu_occupancy": "N/A" if each.cu_occupancy == 0xFFFFFFFF else each.cu_occupancy,
        }
        for each in listed[: count.value]
    ]


def amdsmi_get_gpu_enumeration_info(handle: Any) -> dict[str, Any]:
    info = EnumerationInfo()
    _ask("amdsmi_get_gpu_enumeration_info", handle, ctypes.byref(info))
    return {"hip_id": info.hip_id, "hip_uuid": info.hip_uuid.decode()}


def amdsmi_get_gpu_asic_info(handle: Any) -> dict[str, Any]:
    info = AsicInfo()
    _ask("amdsmi_get_gpu_asic_info", handle, ctypes.byref(info))
    return {"market_name": info.market_name.decode(), "num_compute_units": info.num_of_compute_units}

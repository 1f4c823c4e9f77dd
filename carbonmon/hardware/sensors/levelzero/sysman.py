"""Level Zero Sysman (zes_api.h) by ctypes: the eight functions and six records that are needed here.

Intel's own binding, `pyzes` 0.1.3, loads the library from one path of Debian's only, while it is imported.
The loader is found here as every program finds it, on any distribution; a test compares these records with
that package's. Out-values are undefined after an error: each call's result is looked at first.
"""

from __future__ import annotations

import ctypes
import re
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char,
    c_int32,
    c_int64,
    c_ubyte,
    c_uint8,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

from carbonmon.core.errors import SensorUnavailable
from carbonmon.core.records import NamedTuple

NAME = "libze_loader.so.1"

SUCCESS = 0
DEVICE_LOST, NEEDS_RESET, IN_LOW_POWER = 0x70000001, 0x70000006, 0x70000007
NO_PERMISSION, NOT_AVAILABLE, NO_DEPENDENCY = 0x70010000, 0x70010001, 0x70020000
UNINITIALIZED, UNSUPPORTED_VERSION, UNSUPPORTED = 0x78000001, 0x78000002, 0x78000003

RESULTS = {
    DEVICE_LOST: "device_lost",
    NEEDS_RESET: "needs_reset",
    IN_LOW_POWER: "low_power",
    NO_PERMISSION: "permission",
    NOT_AVAILABLE: "not_available",
    NO_DEPENDENCY: "no_dependency",
    UNINITIALIZED: "uninitialized",
    UNSUPPORTED_VERSION: "unsupported_version",
    UNSUPPORTED: "not_supported",
}
"""Short stable words for results (ze_result_t)."""

UNKNOWN, CARD, PACKAGE, STACK, MEMORY, GPU = range(6)
"""zes_power_domain_t."""

GPU_TYPE = 1
_DEVICE_PROPERTIES, _PCI_PROPERTIES, _POWER_PROPERTIES, _POWER_EXT_PROPERTIES = 0x1, 0x2, 0xD, 0x28

REMEDY = "sudo apt install libze1 libze-intel-gpu1   # Level Zero's loader and Intel's driver for it"


class CoreProperties(Structure):
    """ze_device_properties_t."""

    _fields_ = (
        ("stype", c_int32),
        ("pNext", c_void_p),
        ("type", c_int32),
        ("vendorId", c_uint32),
        ("deviceId", c_uint32),
        ("flags", c_uint32),
        ("subdeviceId", c_uint32),
        ("coreClockRate", c_uint32),
        ("maxMemAllocSize", c_uint64),
        ("maxHardwareContexts", c_uint32),
        ("maxCommandQueuePriority", c_uint32),
        ("numThreadsPerEU", c_uint32),
        ("physicalEUSimdWidth", c_uint32),
        ("numEUsPerSubslice", c_uint32),
        ("numSubslicesPerSlice", c_uint32),
        ("numSlices", c_uint32),
        ("timerResolution", c_uint64),
        ("timestampValidBits", c_uint32),
        ("kernelTimestampValidBits", c_uint32),
        ("uuid", c_ubyte * 16),
        ("name", c_char * 256),
    )


class DeviceProperties(Structure):
    """zes_device_properties_t."""

    _fields_ = (
        ("stype", c_int32),
        ("pNext", c_void_p),
        ("core", CoreProperties),
        ("numSubdevices", c_uint32),
        ("serialNumber", c_char * 64),
        ("boardNumber", c_char * 64),
        ("brandName", c_char * 64),
        ("modelName", c_char * 64),
        ("vendorName", c_char * 64),
        ("driverVersion", c_char * 64),
    )


class PciProperties(Structure):
    """zes_pci_properties_t, with its address and its speed."""

    _fields_ = (
        ("stype", c_int32),
        ("pNext", c_void_p),
        ("domain", c_uint32),
        ("bus", c_uint32),
        ("device", c_uint32),
        ("function", c_uint32),
        ("gen", c_int32),
        ("width", c_int32),
        ("maxBandwidth", c_int64),
        ("haveBandwidthCounters", c_uint8),
        ("havePacketCounters", c_uint8),
        ("haveReplayCounters", c_uint8),
    )


class PowerProperties(Structure):
    """zes_power_properties_t; limits in mW, -1 where they are unknown."""

    _fields_ = (
        ("stype", c_int32),
        ("pNext", c_void_p),
        ("onSubdevice", c_uint8),
        ("subdeviceId", c_uint32),
        ("canControl", c_uint8),
        ("isEnergyThresholdSupported", c_uint8),
        ("defaultLimit", c_int32),
        ("minLimit", c_int32),
        ("maxLimit", c_int32),
    )


class PowerExtProperties(Structure):
    """zes_power_ext_properties_t."""

    _fields_ = (("stype", c_int32), ("pNext", c_void_p), ("domain", c_int32), ("defaultLimit", c_void_p))


class EnergyCounter(Structure):
    """zes_power_energy_counter_t: µJ, and µs of the counter's own clock when it was captured."""

    _fields_ = (("energy", c_uint64), ("timestamp", c_uint64))


class SysmanError(Exception):
    """A call that failed, by its function and its result."""

    def __init__(self, function: str, result: int) -> None:
        self.result = result & 0xFFFFFFFF
        self.reason = RESULTS.get(self.result, f"ze_{self.result:x}")
        super().__init__(f"{function}: {self.reason.replace('_', ' ')} (0x{self.result:x})")


class Domain(NamedTuple):
    """One power domain of a card: its handle and kind, whether it is a tile's, its limit if it is known."""

    handle: int
    kind: int
    is_of_tile: bool
    limit_w: float | None


class Card(NamedTuple):
    """One graphics card as Sysman shows it: always the whole card, whatever the hierarchy of the job is."""

    handle: int
    address: str
    name: str
    tiles: int


_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "zesInit": (c_uint32,),
    "zesDriverGet": (POINTER(c_uint32), POINTER(c_void_p)),
    "zesDeviceGet": (c_void_p, POINTER(c_uint32), POINTER(c_void_p)),
    "zesDeviceGetProperties": (c_void_p, POINTER(DeviceProperties)),
    "zesDevicePciGetProperties": (c_void_p, POINTER(PciProperties)),
    "zesDeviceEnumPowerDomains": (c_void_p, POINTER(c_uint32), POINTER(c_void_p)),
    "zesPowerGetProperties": (c_void_p, POINTER(PowerProperties)),
    "zesPowerGetEnergyCounter": (c_void_p, POINTER(EnergyCounter)),
}

MOST = 4096
"""No machine has more drivers, cards or domains: a larger count is garbage."""


class Sysman:
    """The loaded library, initialised for this process; it has no call that ends it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._calls: dict[str, Any] = {}
        for name, arguments in _PROTOTYPES.items():
            try:
                call = getattr(library, name)
            except AttributeError:
                raise SensorUnavailable(
                    f"{NAME} is too old: it has no {name}", "install a newer Level Zero loader"
                ) from None
            call.argtypes = arguments
            call.restype = c_uint32
            self._calls[name] = call
        self._call("zesInit", 0)

    def cards(self) -> list[Card]:
        """The graphics cards of all drivers, each once; a device that does not say what it is, is none."""
        found: dict[str, Card] = {}
        for driver in self._handles("zesDriverGet"):
            try:
                devices = self._handles("zesDeviceGet", driver)
            except SysmanError:  # a driver without devices: another one has them
                continue
            for device in devices:
                card = self._card(device)
                if card is not None:
                    found.setdefault(card.address, card)
        return list(found.values())

    def domains(self, card: Card) -> list[Domain]:
        """The power domains of a card; raises `SysmanError` where it tells none."""
        found = []
        for handle in self._handles("zesDeviceEnumPowerDomains", card.handle):
            more = PowerExtProperties(stype=_POWER_EXT_PROPERTIES)
            properties = PowerProperties(stype=_POWER_PROPERTIES)
            properties.pNext = ctypes.addressof(more)
            try:
                self._call("zesPowerGetProperties", handle, byref(properties))
            except SysmanError:  # of what it is the power is then unknown
                continue
            largest_mw = max(properties.defaultLimit, properties.maxLimit)
            limit_w = largest_mw / 1000.0 if largest_mw > 0 else None
            found.append(Domain(handle, more.domain, bool(properties.onSubdevice), limit_w))
        return found

    def energy(self, handle: int) -> tuple[int, int]:
        """A domain's energy in µJ and its time in µs; raises `SysmanError`."""
        counter = EnergyCounter()
        self._call("zesPowerGetEnergyCounter", handle, byref(counter))
        return counter.energy, counter.timestamp

    def _card(self, device: int) -> Card | None:
        pci = PciProperties(stype=_PCI_PROPERTIES)
        properties = DeviceProperties(stype=_DEVICE_PROPERTIES)
        properties.core.stype = 0x3  # ZE_STRUCTURE_TYPE_DEVICE_PROPERTIES
        try:
            self._call("zesDevicePciGetProperties", device, byref(pci))
            self._call("zesDeviceGetProperties", device, byref(properties))
        except SysmanError:
            return None
        if properties.core.type != GPU_TYPE:
            return None
        address = f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.{pci.function:x}"
        name = re.sub(r"\((?:R|TM)\)", "", properties.core.name.decode(errors="replace")).strip()
        return Card(device, address, name if name.isprintable() else "", max(1, properties.numSubdevices))

    def _handles(self, function: str, *owner: int) -> list[int]:
        """The handles that a function lists: asked first for their number, then for them."""
        count = c_uint32(0)
        self._call(function, *owner, byref(count), None)
        if not count.value:
            return []
        handles = (c_void_p * min(count.value, MOST))()
        count.value = len(handles)
        self._call(function, *owner, byref(count), handles)
        return [handle for handle in handles[: count.value] if handle]

    def _call(self, function: str, *arguments: Any) -> None:
        result = self._calls[function](*arguments)
        if result != SUCCESS:
            raise SysmanError(function, result)


def load() -> Sysman:
    """Load and initialise Sysman; raises `SensorUnavailable` where that cannot be done."""
    try:
        library = ctypes.CDLL(NAME)
    except OSError as error:
        raise SensorUnavailable(f"Level Zero: {error}", REMEDY) from None
    try:
        return Sysman(library)
    except SysmanError as error:
        remedy = REMEDY if error.result in (UNINITIALIZED, NO_DEPENDENCY) else ""
        raise SensorUnavailable(f"Level Zero: {error}", remedy) from None

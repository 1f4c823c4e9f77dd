"""The node meter `ipmi`: the power that the management controller (BMC) tells by DCMI, inside the machine.

The kernel's device is asked directly: a command such as ipmitool would be a process beside the job, whose
CPU time were the job's. Sources: Linux, include/uapi/linux/ipmi.h and Documentation/driver-api/ipmi.rst for
the device; DCMI 1.5, 6.6.1 «Get Power Reading» for the answer: watts now, least, most and mean in 16 bits
each, the time, the period, and the state. While bit 6 of the state is clear nothing is measured, and the
watts mean nothing.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import time
from itertools import count
from typing import Any

from carbonmon.core.errors import SensorReadError, SensorUnavailable
from carbonmon.core.node_meter import NodeReading
from carbonmon.core.ports import NodeMeter, NodeMeterSettings

DEVICE = "/dev/ipmi0"
ANSWER_S = 10.0
"""The kernel itself gives a request up after some seconds, and says so in an answer."""

_DCMI_GROUP = 0xDC
_POWER_READING = bytes((_DCMI_GROUP, 0x01, 0x00, 0x00))  # the system's power now
_NETFN_GROUP, _GET_POWER_READING = 0x2C, 0x02
_SYSTEM_INTERFACE, _BMC_CHANNEL = 0x0C, 0x0F
_IS_MEASURING = 1 << 6
_ANSWER_BYTES, _STATE = 18, 17
_MOST_BYTES = 272  # IPMI_MAX_MSG_LENGTH

_NO_SUCH_COMMAND = (0xC1, 0xC2)
_REASONS = {
    0xC0: "it is busy",
    0xC3: "it did not answer its own driver in time",
    0xD4: "it lacks the privilege",
    0xFF: "it gives no reason",
}


class _Address(ctypes.Structure):
    _fields_ = [("addr_type", ctypes.c_int), ("channel", ctypes.c_short), ("lun", ctypes.c_ubyte)]


class _Message(ctypes.Structure):
    _fields_ = [
        ("netfn", ctypes.c_ubyte),
        ("cmd", ctypes.c_ubyte),
        ("data_len", ctypes.c_ushort),
        ("data", ctypes.c_void_p),
    ]


class _Request(ctypes.Structure):
    _fields_ = [
        ("addr", ctypes.c_void_p),
        ("addr_len", ctypes.c_uint),
        ("msgid", ctypes.c_long),
        ("msg", _Message),
    ]


class _Received(ctypes.Structure):
    _fields_ = [
        ("recv_type", ctypes.c_int),
        ("addr", ctypes.c_void_p),
        ("addr_len", ctypes.c_uint),
        ("msgid", ctypes.c_long),
        ("msg", _Message),
    ]


def _ioctl_number(direction: int, number: int, record: type[ctypes.Structure]) -> int:
    """_IOC of Linux' asm-generic/ioctl.h, of the ioctls of type 'i'."""
    return direction << 30 | ctypes.sizeof(record) << 16 | ord("i") << 8 | number


_SEND_COMMAND = _ioctl_number(2, 13, _Request)  # the header declares it as one that reads
_RECEIVE_TRUNCATED = _ioctl_number(3, 11, _Received)


def open_meter(settings: NodeMeterSettings) -> NodeMeter:
    """The argument is the controller's device, by default the first one's. Raises `SensorUnavailable`."""
    meter = IpmiMeter(settings.argument or DEVICE)
    meter.open()
    return meter


class IpmiMeter:
    """Asks the controller over the kernel's device."""

    name = "ipmi"
    is_slow = True
    period_s = 5.0
    """Controllers answer in 10 ms to seconds, and refresh the value about once a second."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._file = -1
        self._ids = count(1)

    def open(self) -> None:
        try:
            self._file = os.open(self._device, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            remedy = {
                errno.ENOENT: "sudo modprobe ipmi_devintf ipmi_si; without a BMC there is no such device",
                errno.EACCES: "run the monitor as root: the device is root's",
            }.get(error.errno or 0, "")
            raise SensorUnavailable(f"{self._device}: {error.strerror or error}", remedy) from None

    def read(self) -> NodeReading:
        """Raises `SensorUnavailable` for a controller without DCMI, and `SensorReadError`."""
        if self._file < 0:
            try:
                self.open()
            except SensorUnavailable as error:
                raise SensorReadError(error.reason) from None
        code, answer = self._ask(_NETFN_GROUP, _GET_POWER_READING, _POWER_READING)
        if code in _NO_SUCH_COMMAND:
            raise SensorUnavailable(
                "the management controller has no DCMI power reading", "--node-meter redfish:https://BMC"
            )
        if code:
            raise SensorReadError(
                f"the management controller refuses: {_REASONS.get(code, 'it cannot')} (0x{code:02X})"
            )
        if len(answer) < _ANSWER_BYTES or answer[0] != _DCMI_GROUP:
            raise SensorReadError("the management controller's answer is no power reading of DCMI")
        if not answer[_STATE] & _IS_MEASURING:
            raise SensorReadError("the power meter is off: sudo ipmitool dcmi power activate")
        power_w = int.from_bytes(answer[1:3], "little")
        if power_w == 0:
            raise SensorReadError("the management controller says 0 W, and the machine runs: unknown")
        return NodeReading(power_w=float(power_w))

    def describe(self) -> str:
        return f"DCMI power reading of the management controller at {self._device}"

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _ask(self, netfn: int, command: int, data: bytes) -> tuple[int, bytes]:
        """The completion code and the data of the answer to a request; raises `SensorReadError`."""
        address = _Address(_SYSTEM_INTERFACE, _BMC_CHANNEL, 0)
        sent = ctypes.create_string_buffer(data, len(data))
        number = next(self._ids)
        request = _Request(
            ctypes.addressof(address),
            ctypes.sizeof(address),
            number,
            _Message(netfn, command, len(data), ctypes.addressof(sent)),
        )
        try:
            fcntl.ioctl(self._file, _SEND_COMMAND, request, True)
            deadline_s = time.monotonic() + ANSWER_S
            while True:
                answer = self._next_answer(deadline_s)
                if answer is not None and answer[0] == number:
                    return answer[1][0], answer[1][1:]
        except OSError as error:
            self.close()  # a device that was taken away and came back is another one
            raise SensorReadError(f"{self._device}: {error.strerror or error}") from None

    def _next_answer(self, deadline_s: float) -> tuple[int, bytes] | None:
        """The request's number and the answer, completion code first; None for an empty one."""
        poll = select.poll()
        poll.register(self._file, select.POLLIN)
        left_s = deadline_s - time.monotonic()
        if left_s <= 0.0 or not poll.poll(left_s * 1000.0):
            raise SensorReadError(f"the management controller did not answer within {ANSWER_S:g} s")
        address, data = _Address(), ctypes.create_string_buffer(_MOST_BYTES)
        received: Any = _Received(
            addr=ctypes.addressof(address),
            addr_len=ctypes.sizeof(address),
            msg=_Message(0, 0, _MOST_BYTES, ctypes.addressof(data)),
        )
        try:
            fcntl.ioctl(self._file, _RECEIVE_TRUNCATED, received, True)
        except BlockingIOError:
            return None
        found = data.raw[: min(received.msg.data_len, _MOST_BYTES)]
        return (received.msgid, found) if found else None

"""The local channel by which the process of ended runs gives its port and its runs to the next monitor.

A Unix socket in the abstract namespace (unix(7)), named by user and address. It belongs to the network
namespace, as the port does, it has no file that a killed process could leave, and both sides ask the kernel
for the other one's user (SO_PEERCRED) before a byte is exchanged.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

MAX_BYTES = 64 << 20
TIMEOUT_S = 2.0
"""How long either side waits for the other: a process that was started a moment ago answers within 0.3 s."""

TAKEN, TAKEN_WITH_TARGET = b"t", b"f"
"""The monitor serves from now on; with the second it also writes the file of `--targets`."""

_LENGTH = struct.Struct("!Q")
_CREDENTIALS = struct.Struct("iii")


def listen(address: tuple[str, int]) -> socket.socket:
    """Make the channel of a listening address; raises OSError."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.bind(_name(address))
        channel.listen(4)
    except BaseException:
        channel.close()
        raise
    return channel


def offer(connection: socket.socket, data: bytes, listening: socket.socket) -> bytes:
    """Give data and the listening socket to whoever has connected; its answer, b"" if it took nothing.

    Another user is sent nothing.
    """
    try:
        if not _is_ours(connection):
            return b""
        connection.settimeout(TIMEOUT_S)
        head = _LENGTH.pack(len(data))
        descriptors = array.array("i", [listening.fileno()])
        connection.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        connection.sendall(data)
        return connection.recv(1)
    except OSError:
        return b""


def take(
    address: tuple[str, int], accept: Callable[[bytes], tuple[bytes, Value] | None]
) -> tuple[socket.socket, Value] | None:
    """Take the listening socket of ended runs of ours at this address; None if there are none.

    `accept` gives the answer and what it makes of the data, or None to leave all as it is.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, contextlib.ExitStack() as failed:
        try:
            connection.settimeout(TIMEOUT_S)
            connection.connect(_name(address))
            if not _is_ours(connection):
                return None
            head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, 1)
            if len(descriptors) != 1:
                return None
            listening = failed.enter_context(socket.socket(fileno=descriptors[0]))
            found = accept(_receive(connection, *_LENGTH.unpack(head)))
            if found is None:
                return None
            connection.sendall(found[0])
            connection.recv(1)  # it has stopped to answer, and has ended
        except (OSError, struct.error):
            return None
        failed.pop_all()
        return listening, found[1]


def _name(address: tuple[str, int]) -> str:
    host, port = address
    return f"\0carbonmon-ended-{os.geteuid()}-{host}:{port}"


def _is_ours(connection: socket.socket) -> bool:
    """Whether the other end is a process of our own user."""
    known = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int
    _, uid, _ = _CREDENTIALS.unpack(known)
    return uid & 0xFFFFFFFF == os.geteuid()


def _receive(connection: socket.socket, length: int) -> bytes:
    """So many bytes within the time limit; raises OSError."""
    if length > MAX_BYTES:
        raise OSError("too long")
    end_s = time.monotonic() + TIMEOUT_S
    received = bytearray()
    while len(received) < length:
        chunk = connection.recv(min(1 << 16, length - len(received)))
        if not chunk or time.monotonic() > end_s:
            raise OSError("incomplete")
        received += chunk
    return bytes(received)

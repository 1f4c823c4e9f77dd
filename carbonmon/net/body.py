"""What a server sends, within bytes and a deadline: nothing is kept beyond the limit, packed or unpacked."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from carbonmon.net.deadline import Deadline

if TYPE_CHECKING:
    from http.client import HTTPResponse

HEAD_LIMIT_BYTES = 1 << 16
"""Of status line and headers together, those of answers that only say 100 included."""

BUFFER_BYTES = 1 << 13
"""What is read at once. Python 3.14's own buffer is twice a head's limit: a body would count as head."""

_PIECE_BYTES = 1 << 14


class TooLong(Exception):
    """The server sends more than it may; the text says of what."""

    def __init__(self, limit_bytes: int, what: str = "the answer") -> None:
        super().__init__(f"{what} is longer than {limit_bytes} bytes")


class Damaged(Exception):
    """The body is packed in a way that nobody asked for, or does not unpack."""


class Incomplete(Exception):
    """The body ends before its end."""


class Incoming(io.RawIOBase):
    """The reading end of a socket: each wait ends with the deadline, all bytes are counted.

    The count is what holds where http.client itself would read without a limit: a chunk of -1 bytes is to it
    all that comes, headers and trailers are a hundred times 64 KiB or without an end.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._left_bytes = 0
        self._excess = TooLong(0)

    def allow(self, limit_bytes: int, framing_bytes: int = 0, what: str = "the answer") -> None:
        """So much may come from now on; `framing_bytes` on top for chunk sizes and trailers."""
        self._left_bytes = limit_bytes + framing_bytes
        self._excess = TooLong(limit_bytes, what)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left_s())
        count = self._sock.recv_into(buffer)
        self._left_bytes -= count
        if self._left_bytes < 0:
            raise self._excess
        return count


def pieces(response: HTTPResponse, incoming: Incoming, limit_bytes: int) -> Iterator[bytes]:
    """The body, unpacked, piece by piece; raises TooLong, Damaged or Incomplete as soon as it is none.

    The limit is for the body as it is sent and as it is unpacked. Only gzip is unpacked, which is what we ask
    for: a piece of it at a time, because a bomb of a few kilobytes is megabytes.
    """
    import zlib

    encoding = (response.getheader("Content-Encoding") or "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise Damaged("it is packed in a way that nobody asked for")
    if (response.length or 0) > limit_bytes:
        raise TooLong(limit_bytes)
    # Chunks of a few bytes are mostly their sizes.
    incoming.allow(limit_bytes, framing_bytes=limit_bytes // 4 + HEAD_LIMIT_BYTES)
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16) if "gzip" in encoding else None
    received = unpacked = 0
    while piece := response.read(min(_PIECE_BYTES, limit_bytes + 1)):
        received += len(piece)
        if unpacker is not None:
            try:
                piece = unpacker.decompress(piece, limit_bytes + 1 - unpacked)
            except zlib.error:
                raise Damaged("it does not unpack") from None
        unpacked += len(piece)
        if max(received, unpacked) > limit_bytes:
            raise TooLong(limit_bytes)
        yield piece
        if unpacker is not None and unpacker.eof:
            return
    if response.length or (unpacker is not None and received):
        raise Incomplete("it ends before its end")

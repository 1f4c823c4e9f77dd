"""A checksum in front of a JSON object, so that a reader sees any damage to it.

    {"crc32":"0a1b2c3d","sequence":17,"schema":…}

`crc32` is the CRC-32 (ISO 3309, as in gzip) of all bytes behind the comma that follows it, without the white
space at the end. It shows damage, not forgery: who may write the file can also write its checksum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

from carbonmon.core.patterns import pattern
from carbonmon.runs.checked import RunFileError

_SEAL = pattern(rb'\{"crc32":"([0-9a-f]{8})","sequence":([0-9]{1,18}),')
_WHITE = b" \n"


def sealed(text: str, sequence: int = 1) -> bytes:
    """A JSON object that is not empty, in one line, with its checksum and number in front."""
    data = text.rstrip().encode()
    rest = memoryview(data)[1:]  # without copies: it is all that a checkpoint holds
    number = _number(sequence)
    return b"".join((_head(crc32(rest, crc32(number)), number), rest, b"\n"))


def sealed_parts(parts: Sequence[str], sequence: int = 1) -> Iterator[bytes]:
    """The same of an object whose text is in parts, part by part: it may be too large to have it twice.

    The first part begins with the brace, the last one ends with the other.
    """
    first, *rest = parts
    number = _number(sequence)
    checksum = crc32(first[1:].encode(), crc32(number))
    for part in rest:
        checksum = crc32(part.encode(), checksum)
    yield _head(checksum, number)
    yield first[1:].encode()
    for part in rest:
        yield part.encode()
    yield b"\n"


def _number(sequence: int) -> bytes:
    return b'"sequence":%d,' % sequence


def _head(checksum: int, number: bytes) -> bytes:
    return b'{"crc32":"%08x",%b' % (checksum, number)


def checked_sequence(path: Path, data: bytes) -> int | None:
    """The number of a sealed object, None where there is no seal in front.

    Raises `RunFileError` where the checksum is not that of the content.
    """
    head = _SEAL.match(data)
    if head is None:
        return None
    if int(head[1], 16) != crc32(data[head.end(1) + 2 :].rstrip(_WHITE)):
        raise RunFileError(f"{path}: damaged: its checksum is not that of its content")
    return int(head[2])


def no_checksum(path: Path) -> RunFileError:
    """What there is to say of an object without a seal, whose schema always has one."""
    return RunFileError(f"{path}: damaged: its checksum is missing")

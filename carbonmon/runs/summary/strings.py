"""Makes strings of users (names, labels, command lines) valid for a file, a label or a terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from carbonmon.core.model import MAIN_PHASE, MEASURED_METHODS
from carbonmon.core.plain_text import plain
from carbonmon.core.text_layout import cut

UNNAMED_HARDWARE = "all hardware"
"""What an estimate calls hardware of which only the power or the energy was given."""


def encodable(text: str) -> str:
    r"""Return the text so that UTF-8 can hold it.

    A command line that is not UTF-8 reaches Python with lone surrogates, which no encoder takes: they
    become `\udcff` in plain characters, so that nothing is lost and no scrape fails over a name.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def counted(name: str) -> tuple[int, str]:
    """How many of what: `10 × V100` is (10, "V100"), as an estimate names its devices; else one of it."""
    count, _, rest = name.partition(" × ")
    is_count = count.isascii() and count.isdecimal() and len(count) < 8
    return (int(count), rest) if is_count and rest else (1, name)


def numbered(device: Mapping[str, Any]) -> tuple[int | None, str]:
    """How many devices an entry of a summary stands for, None where nobody said it, and their name."""
    count, name = counted(device["name"] or f"unnamed {device['component'].upper()}")
    return device.get("number", count), name


def one_line(text: str, width: int) -> str:
    """Return the text for a terminal: in printable characters, and at most `width` columns of them."""
    return cut(plain(text), width)


def device_text(device_id: str, index: int | None, *, is_short: bool) -> str:
    """A device for people: a GPU by its index and its UUID, of which `is_short` leaves the first group.

    An id that is a place on the PCI bus (`GPU-0000:10:00.0`) stays whole.
    """
    is_gpu = device_id.startswith(("GPU-", "MIG-"))
    shown = one_line(device_id[:12] if is_short and is_gpu and ":" not in device_id else device_id, 80)
    return f"{index} {shown}" if is_gpu and index is not None else shown


def is_estimated(methods: Collection[str]) -> bool:
    """Whether no sensor stands behind an energy of these methods: 0 J of it are an estimate, too."""
    return bool(methods) and not set(methods) & set(MEASURED_METHODS)


def phase_text(name: str) -> str:
    """A phase for people: what is outside of the named phases is in files and metrics `main`."""
    return "outside phases" if name == MAIN_PHASE else name

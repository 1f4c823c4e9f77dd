"""Two ways to read a zone's counter with one interface: pyRAPL, and the file itself.

pyRAPL reads the machine's own /sys and simple package names only; a zone that it cannot read, or reads
differently from the file, is read directly.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from carbonmon.hardware.number_file import NumberFile
from carbonmon.hardware.sensors.rapl.zones import Zone

log = logging.getLogger(__name__)


class Reader(Protocol):
    """A counter. `read_uj` returns microjoules or raises OSError or ValueError."""

    def read_uj(self) -> int: ...

    def close(self) -> None: ...


class DirectReader(NumberFile):
    """The counter's file itself."""

    __slots__ = ()

    def __init__(self, zone: Zone) -> None:
        super().__init__(zone.path / "energy_uj", "microjoules")

    def read_uj(self) -> int:
        return self.read()


class PyRaplReader:
    """One socket's package or dram counter through pyRAPL (in µJ, though its documentation says J).

    The first value is pyRAPL's own; those that follow are read from the file that it holds open, with one
    system call in place of two and a text decoder.
    """

    def __init__(self, api: Any, socket: int) -> None:
        self._api = api
        self._socket = socket
        self._file = -1

    def read_uj(self) -> int:
        if self._file >= 0:
            text = os.pread(self._file, 64, 0).strip()
            if not text.isdigit():
                raise ValueError(f"pyRAPL's file of socket {self._socket}: {text!r} is not a number of µJ")
            return int(text)
        energy_uj = self._api.energy()[self._socket]
        if not 0 <= energy_uj < float("inf"):
            raise ValueError(f"pyRAPL gives {energy_uj} µJ for socket {self._socket}")
        if len(self._api._sys_files) == 1:
            self._file = self._api._sys_files[0].fileno()
        return int(energy_uj)

    def close(self) -> None:
        self._file = -1
        for file in self._api._sys_files:  # pyRAPL has no close of its own
            file.close()


def open_pyrapl(sysfs: Path, readers: Sequence[tuple[Zone, Reader]]) -> tuple[list[tuple[Zone, Reader]], str]:
    """The readers, replaced by pyRAPL's where it reads the same counter, and why it cannot read others."""
    if sysfs != Path("/sys"):
        return list(readers), f"pyRAPL reads /sys only, not {sysfs}"
    try:
        with _without_side_effects():
            import pyRAPL
    except Exception as error:  # whatever an unmaintained package may raise: we read the files ourselves
        log.debug("pyRAPL cannot be imported", exc_info=True)
        return list(readers), f"pyRAPL cannot be imported: {error}"
    served: list[tuple[Zone, Reader]] = []
    why_not = ""
    for zone, direct in readers:
        plain = re.fullmatch(r"(package|dram)-(\d+)", zone.device_id)
        if plain is None:
            served.append((zone, direct))
            continue
        make = pyRAPL.PkgAPI if plain[1] == "package" else pyRAPL.DramAPI
        try:
            with _without_side_effects():  # it leaves files of the CPU's topology to the garbage collector
                reader = PyRaplReader(make([zone.package]), zone.package)
        except (pyRAPL.PyRAPLException, OSError, ValueError, IndexError) as error:
            why_not = f"pyRAPL refuses {zone.device_id}: {type(error).__name__} {error}".rstrip()
            served.append((zone, direct))
            continue
        try:
            before_uj, by_pyrapl_uj, after_uj = direct.read_uj(), reader.read_uj(), direct.read_uj()
        except (OSError, ValueError) as error:
            reader.close()
            why_not = f"{zone.device_id} cannot be read now: {error}"
            served.append((zone, direct))
            continue
        if before_uj <= by_pyrapl_uj <= after_uj or after_uj < before_uj:
            direct.close()
            served.append((zone, reader))
        else:
            reader.close()
            why_not = f"pyRAPL reads another counter for {zone.device_id}"
            served.append((zone, direct))
    return served, why_not


@contextmanager
def _without_side_effects() -> Iterator[None]:
    """Use pyRAPL without its side effects on the user's process.

    It warns through the root logger when pandas or pymongo is missing, which configures that logger;
    and where they are there it imports them, some 60 MB that we never use. Its source has escape
    sequences that Python 3.12 and later warn of when they compile it.
    """
    root = logging.getLogger()
    handlers, disabled = root.handlers[:], logging.root.manager.disable
    absent = [name for name in ("pandas", "pymongo") if name not in sys.modules]
    logging.disable(logging.CRITICAL)
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None makes an import fail at once
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)
        logging.disable(disabled)
        root.handlers[:] = handlers

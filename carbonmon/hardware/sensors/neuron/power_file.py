"""Reads the power of a Neuron device: a line for each minute, in percent of a maximum that nobody tells.

`STATUS,Unix seconds,least,most,mean` of the last whole minute (Neuron documentation, "Neuron Sysfs User
Guide"). It holds no power at no load: the firmware takes that off (aws-neuronx-dkms 2.27.4, neuron_power.c).
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

VALID, NO_DATA = "POWER_STATUS_VALID", "POWER_STATUS_NO_DATA"

STILL_S = 180.0
"""A line that did not change for so long is one that nobody renews: the driver does so each minute."""

_PERCENT = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)"
_LINE = re.compile(rf"([A-Z_]{{1,32}}),([0-9]{{1,19}}),{_PERCENT},{_PERCENT},{_PERCENT}")


class PowerFile:
    """The file of one device. `is_fresh`: its line is of a minute that ended after it was read first.

    `is_gone`: it is not where it was.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._stamp: int | None = None
        self._since_s = 0.0
        self._last = ""
        self.is_fresh = False
        self.is_gone = False

    def read(self, now_s: float) -> float | None:
        """The mean of the last minute (0 to 1 of the maximum), None where the driver has none yet.

        What was there before the first read is of a time in which nobody was measured: None too. Raises
        OSError, or ValueError for a line that is none or that stands still.
        """
        line = _LINE.fullmatch(self._text())
        if line is None:
            raise ValueError(f"{self._path}: {self._last!r:.80} is not STATUS,time,least,most,mean")
        status, stamp, mean = line[1], int(line[2]), float(line[5])
        if stamp != self._stamp:
            self.is_fresh = self._stamp is not None and status == VALID
            self._stamp, self._since_s = stamp, now_s
        elif now_s - self._since_s > STILL_S:
            self.is_fresh = False
            raise ValueError(f"{self._path}: it has not changed for {now_s - self._since_s:.0f} s")
        if status == NO_DATA:
            self.is_fresh = False
            return None
        if status != VALID:
            self.is_fresh = False
            raise ValueError(f"{self._path}: {status}: the driver could not measure")
        if not 0.0 <= mean <= 100.0:
            self.is_fresh = False
            raise ValueError(f"{self._path}: {mean:g} is no percentage")
        return mean / 100.0 if self.is_fresh else None

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _text(self) -> str:
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            self._last = os.pread(self._file, 256, 0).decode("ascii", "replace").strip()
        except OSError as error:
            self.close()
            self.is_fresh = False
            self.is_gone = error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO)
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        return self._last

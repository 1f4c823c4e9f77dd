"""How busy the cores of Neuron devices are, by AWS's program neuron-monitor: a line of JSON for each period.

Format: the Neuron documentation, "Neuron Monitor User Guide". Only cores in use are listed: one that is not
there is idle, where a program is listed without an error.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from carbonmon.hardware.own_children import OwnChild

PROGRAM = "neuron-monitor"
USUAL_PLACE = "/opt/aws/neuron/bin/neuron-monitor"

STALE_S = 30.0
"""A line every 5 s is the program's default; one that is older than this tells nothing of now."""

MOST_BYTES = 8 << 20
"""A line is some 100 kB on a machine of 16 devices."""

_CHUNK_BYTES = 1 << 16


class BusyCores:
    """A running neuron-monitor. It is read without waiting."""

    def __init__(self, program: str) -> None:
        """Start it; raises OSError where it cannot be started."""
        self._child = OwnChild([program])
        self._text = b""
        self._ratios: dict[int, float] | None = None
        self._at_s = -math.inf
        self.trouble = ""
        """Why its last line tells nothing, for people."""

    def read(self, now_s: float) -> dict[int, float] | None:
        """Each device's utilisation (0 to 1) by number, 0 for one that is not in use; None if unknown."""
        line = self._newest_line()
        if line is not None:
            self._at_s = now_s
            try:
                self._ratios, self.trouble = utilizations(json.loads(line)), ""
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                self._ratios, self.trouble = None, f"{PROGRAM}: {error}"
        return self._ratios if 0.0 <= now_s - self._at_s <= STALE_S else None

    def has_ended(self) -> bool:
        return self._child.has_ended()

    def close(self) -> None:
        """End it."""
        self._child.close()

    def _newest_line(self) -> bytes | None:
        """The last whole line that has come since the last call."""
        with suppress(BlockingIOError):
            for _ in range(MOST_BYTES // _CHUNK_BYTES):  # one that never stops is not read for ever
                chunk = os.read(self._child.output, _CHUNK_BYTES)
                if not chunk:
                    break
                self._text += chunk
        if len(self._text) > MOST_BYTES:
            self._text = b""
        *lines, self._text = self._text.split(b"\n")
        return next((line for line in reversed(lines) if line.strip()), None)


def find_program(environ: Mapping[str, str]) -> str | None:
    """Where neuron-monitor is, None where it is not installed."""
    return shutil.which(PROGRAM, path=environ.get("PATH")) or shutil.which(USUAL_PLACE)


def utilizations(document: Any) -> dict[int, float]:
    """Each device's utilisation by a line; raises ValueError, TypeError or KeyError where it tells none."""
    hardware = document["neuron_hardware_info"]
    if hardware.get("error"):
        raise ValueError(f"{hardware['error']!r:.80}")
    count = _whole(hardware["neuron_device_count"], 1)
    logical = _whole(hardware.get("logical_neuroncore_config") or 1, 1)
    cores = max(1, _whole(hardware["neuroncore_per_device_count"], 1) // logical)
    busy = dict.fromkeys(range(count), 0.0)
    for program in document.get("neuron_runtime_data") or []:
        counters = (program.get("report") or {}).get("neuroncore_counters") or {}
        error = program.get("error") or counters.get("error")
        if error:
            raise ValueError(f"{error!r:.80}")
        for core, told in (counters.get("neuroncores_in_use") or {}).items():
            percent = float(told["neuroncore_utilization"])
            device = _whole(int(core), 0) // cores
            if not 0.0 <= percent <= 100.0 or device not in busy:
                raise ValueError(f"{percent} % of core {core!r:.20}")
            busy[device] += percent / 100.0 / cores
    return {device: min(1.0, ratio) for device, ratio in busy.items()}


def _whole(value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 4096:
        raise ValueError(f"{value!r:.40} is no number of devices or cores")
    return value

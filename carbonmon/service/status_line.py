"""`carbonmon run --status-line`: a run's figures in the terminal's title. Loaded only where it is asked for.

Nothing is written into the text of the terminal. A line below a scroll region, or one that is drawn again and
again, mixes with the job's output: both share one cursor and one memory of it with a job that draws bars or
whole screens, and a killed monitor would leave the region behind. The title is what terminfo calls the status
line of xterm and its kin (tsl, fsl); tmux shows it at the bottom. Each title is one write(2), which a
terminal takes as a whole, behind what the job has written by then.
"""

from __future__ import annotations

import logging
import os
import re
import select
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from carbonmon.core.model import MEASURED_METHODS, Snapshot
from carbonmon.core.plain_text import plain
from carbonmon.core.records import NamedTuple
from carbonmon.runs.summary.figures import (
    UNKNOWN,
    clock_text,
    duration_text,
    energy_text,
    mass_text,
    percent_text,
    power_text,
)
from carbonmon.runs.summary.outlook import known_spent
from carbonmon.runs.summary.ranges import is_seen, seen_totals

log = logging.getLogger(__name__)

PERIOD_S = 2.0
CLOSE_S = 0.5
"""How long the end of a job waits for the thread, which a terminal may hold."""

LONGEST = 120
"""Characters of a title."""

_HAS_TITLE = re.compile(
    r"(xterm|screen|tmux|rxvt|vte|gnome|konsole|alacritty|foot|kitty|wezterm|st|stterm|iterm2?|ghostty"
    r"|contour|putty|mlterm|mintty|rio|ms-terminal)(-.*)?"
)
"""Values of TERM of terminals that are known to have a title; others might print it as text."""

# xterm's window operations 22 and 23 keep the title and bring it back; OSC 2 sets it
# (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
_KEEP, _BRING_BACK = b"\x1b[22;2t", b"\x1b[23;2t"


class Status(NamedTuple):
    """What a line says of a run; `measured_ratio` is of its energy, `end_s` the Unix time of the forecast's
    end, `budgets` texts with the part that is spent; `power_w` is without that of `unknown_devices`."""

    power_w: float | None
    energy_j: float | None
    measured_ratio: float | None
    emissions_g: float | None
    duration_s: float
    end_s: float | None = None
    budgets: Sequence[tuple[str, float | None]] = ()
    unknown_devices: int = 0


def text_of(status: Status) -> str:
    """The line. A `~` before power and energy says that a part of the energy, or all of it, is estimated.

    tmux shows the first 21 characters unless it is told otherwise, so power and energy come first.
    """
    sign = "" if status.measured_ratio == 1.0 else "~"
    parts = ["power unknown" if status.power_w is None else sign + power_text(status.power_w)]
    if status.power_w is not None and status.unknown_devices:
        parts[0] += f" + {status.unknown_devices} unknown"
    if status.energy_j is not None:
        parts.append(sign + energy_text(status.energy_j))
    if status.emissions_g is not None:
        parts.append(f"{mass_text(status.emissions_g)} CO2e")
    parts.append(duration_text(status.duration_s))
    if status.end_s is not None:
        parts.append(f"end {clock_text(status.end_s)}")
    parts += [f"{text} {UNKNOWN if ratio is None else percent_text(ratio)}" for text, ratio in status.budgets]
    return plain(", ".join(parts))[:LONGEST]


def of_snapshot(snapshot: Snapshot, run_id: str) -> Status | None:
    """The status of a run of our own monitor; None before its first sample."""
    run = next((each for each in snapshot.runs if each.info.id == run_id), None)
    if run is None or not run.totals:
        return None
    watts = [power_w for _, power_w in run.power_w if power_w is not None]
    totals, is_known = seen_totals(run), is_seen(run)
    energy_j = sum(total.energy_j for total in totals)
    measured_j = sum(total.energy_j for total in totals if total.method in MEASURED_METHODS)
    began_s = snapshot.at_s - run.duration_s
    return Status(
        sum(watts) if watts else None,
        energy_j if is_known else None,
        measured_j / energy_j if energy_j else None,
        sum(total.emissions_g for total in totals) if is_known else None,
        run.duration_s,
        None if run.forecast is None else began_s + run.forecast.duration_s.expected,
        [(budget.text, _part(known_spent(run, budget), budget.limit)) for budget in run.budgets],
        len(run.power_w) - len(watts),
    )


def _part(spent: float | None, limit: float) -> float | None:
    return None if spent is None else spent / limit


def of_totals(totals: Mapping[str, object], now_s: float) -> Status | None:
    """The status of a run of another process's monitor, as that tells it to those who take part."""
    duration_s = totals.get("duration_s")
    if not isinstance(duration_s, (int, float)):
        return None

    def number(key: str) -> float | None:
        found = totals.get(key)
        return float(found) if isinstance(found, (int, float)) else None

    forecast = totals.get("forecast")
    span = forecast.get("duration_s") if isinstance(forecast, dict) else None
    whole_s = span.get("expected") if isinstance(span, dict) else None
    end_s = now_s - duration_s + whole_s if isinstance(whole_s, (int, float)) else None
    power_w, energy_j, measured_ratio, emissions_g = (
        number(key) for key in ("power_w", "energy_j", "measured_ratio", "emissions_g")
    )
    return Status(power_w, energy_j, measured_ratio, emissions_g, float(duration_s), end_s)


class StatusLine:
    """Shows a status in the title of the terminal of stderr, from a thread of its own; does nothing where
    stderr is no terminal, or one without a title."""

    def __init__(
        self,
        status: Callable[[], Status | None],
        environ: Mapping[str, str],
        descriptor: int = 2,
        period_s: float = PERIOD_S,
    ) -> None:
        self._status, self._descriptor, self._period_s = status, descriptor, period_s
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if not _HAS_TITLE.fullmatch(environ.get("TERM", "")) or not os.isatty(descriptor):
            return
        self._thread = threading.Thread(target=self._show, name="carbonmon-status-line", daemon=True)

    def start(self) -> None:
        try:
            if self._thread is not None:
                self._thread.start()
        except RuntimeError as error:  # no more threads for this user: the job matters more
            self._thread = None
            log.debug("no status line: %s", error)

    def close(self) -> None:
        """Bring the title back that was there before."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    # ---- in the thread ----

    def _show(self) -> None:
        # A write from the background would stop this process, if the terminal is set so (TOSTOP).
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        before = b""
        try:
            while not self._over.wait(self._period_s):
                found = self._status()
                title = b"" if found is None else text_of(found).encode("ascii", "replace")
                if title not in (b"", before) and self._can_write():
                    self._write((b"" if before else _KEEP) + b"\x1b]2;%b\x1b\\" % title)
                    before = title
            if before and self._can_write():
                self._write(_BRING_BACK)
        except OSError:
            pass  # the terminal is gone: the job goes on without a line
        except Exception:  # our own bug: the job goes on, metered
            log.debug("the status line has failed", exc_info=True)

    def _can_write(self) -> bool:
        """Whether the terminal takes output, and the job has it: not while a shell is in front of us."""
        with suppress(OSError):
            if os.tcgetpgrp(self._descriptor) != os.getpgrp():
                return False
        return bool(select.select([], [self._descriptor], [], 0.0)[1])

    def _write(self, data: bytes) -> None:
        """All of it in one write, which the terminal does not mix with others'."""
        os.write(self._descriptor, data)

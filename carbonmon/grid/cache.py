"""Caches the figures of live sources on disk, for the next run and for others at the same time.

One JSON file for each source, zone and kind of figure. Nothing depends on it: a file that is damaged, of
another version or another user's, or a folder that cannot be written, causes one more request.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zlib
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from carbonmon.core.documents import json_value
from carbonmon.core.files import read_file, replace_file
from carbonmon.core.ports import GridSource
from carbonmon.core.records import NamedTuple
from carbonmon.core.timeline import HIGHEST_G_PER_KWH, Slot, Timeline

log = logging.getLogger(__name__)

SCHEMA = "carbonmon.grid-cache/1"
LIMIT_BYTES = 4 << 20
_MIRROR = re.compile(r"CARBONMON_[A-Z]+_URL")
_CLOCK_SLACK_S = 60.0
"""Clocks of machines that share a home folder differ a little."""


class CachedFigures(NamedTuple):
    """A source's figures, when they were requested, and when to request them again; Unix times."""

    timeline: Timeline
    asked_s: float
    due_s: float


class Cache:
    """The files in one folder; without a folder nothing is cached."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self, source: GridSource, now_s: float) -> CachedFigures | None:
        """The cached figures of a source, None without valid ones."""
        if self._folder is None:
            return None
        path = self._folder / _file_name(source)
        try:
            if path.stat().st_uid not in (os.geteuid(), 0):
                raise ValueError("it belongs to another user")
            cached = _parse_cached(json_value(read_file(path, LIMIT_BYTES)), source)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
            log.debug("%s: not used: %s", path, error)
            return None
        # After a clock was set back, figures of the future do not say when to request again.
        return cached if cached.asked_s <= now_s + _CLOCK_SLACK_S else None

    def save(self, source: GridSource, cached: CachedFigures) -> None:
        """Write the figures of a source; if that fails they are requested again, and nothing else happens."""
        if self._folder is None:
            return
        path = self._folder / _file_name(source)
        document = {
            "schema": SCHEMA,
            **_identity(source),
            "asked_s": cached.asked_s,
            "due_s": cached.due_s,
            "slots": cached.timeline.slots,
        }
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, json.dumps(document, allow_nan=False).encode(), 0o600)
        except (OSError, ValueError) as error:
            log.debug("%s: not written: %s", path, error)


def cache_folder(environ: Mapping[str, str]) -> Path | None:
    """A user's cache folder by the XDG Base Directory Specification; None if it is unknown.

    Figures of other servers (CARBONMON_*_URL) have a folder of their own, because they may differ.
    """
    base, home = environ.get("XDG_CACHE_HOME", ""), environ.get("HOME", "")
    if not base.startswith("/"):  # the specification has relative paths ignored
        base = f"{home}/.cache" if home.startswith("/") else ""
    if not base:
        return None
    mirrors = "\n".join(
        f"{key}={url}" for key, url in sorted(environ.items()) if _MIRROR.fullmatch(key) and url
    )
    apart = f"mirror-{zlib.crc32(mirrors.encode('utf-8', 'replace')):08x}" if mirrors else ""
    return Path(base) / "carbonmon" / apart


def check_slot(slot: Any) -> Slot:
    """A slot with valid values; raises ValueError or TypeError for others."""
    start_s, end_s, value, kind, note = slot
    numbers = float(start_s), float(end_s), float(value)
    if (
        not all(map(isfinite, numbers))
        or not 0 <= numbers[2] <= HIGHEST_G_PER_KWH
        or numbers[0] >= numbers[1]
    ):
        raise ValueError("a slot holds impossible numbers")
    if kind not in ("live", "forecast", "fixed") or not isinstance(note, str):
        raise ValueError("a slot has no kind or no note")
    return Slot(*numbers, kind, note[:200])


def _parse_cached(found: Any, source: GridSource) -> CachedFigures:
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError("it is of another version")
    if any(found.get(key) != value for key, value in _identity(source).items()):
        raise ValueError("it is of another source")
    asked_s, due_s = float(found["asked_s"]), float(found["due_s"])
    if not (isfinite(asked_s) and isfinite(due_s)):
        raise ValueError("it holds impossible times")
    return CachedFigures(Timeline(check_slot(slot) for slot in found["slots"]), asked_s, due_s)


def _identity(source: GridSource) -> dict[str, str | None]:
    return {
        "source": source.name,
        "zone": source.zone,
        "basis": source.basis,
        "accounting": source.accounting,
    }


def _file_name(source: GridSource) -> str:
    """A readable name, with a checksum that makes it unique."""
    whole = "\n".join(str(value) for value in _identity(source).values())
    shown = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{source.name}-{source.zone}")[:60]
    return f"{shown}-{zlib.crc32(whole.encode('utf-8', 'replace')):08x}.json"

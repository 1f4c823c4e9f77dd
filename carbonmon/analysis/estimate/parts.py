"""The parts of a job that is estimated: its hardware and hours, from options or from a TOML file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from carbonmon.core.config import parse_number
from carbonmon.core.documents import read_toml
from carbonmon.core.errors import ConfigError
from carbonmon.core.hints import meant
from carbonmon.core.model import MAIN_PHASE
from carbonmon.hardware.device_counts import split_count

KEYS = (
    *("gpu", "gpu-utilization", "gpu-tdp", "cpu", "cpu-utilization", "cpu-tdp", "memory-gb"),
    *("hours", "name"),
)
"""The keys of a part of a TOML file; the options of the command line have the same names."""
MAX_COUNT = 1_000_000
MAX_HOURS = 100_000.0
MAX_MEMORY_GB = 1e9
MAX_PARTS = 1_000
LONGEST_NAME = 64

_COUNT = re.compile(r"[1-9][0-9]{0,6}")
_NUMBER = re.compile(r"[-+]?[0-9][0-9.,_e+-]*")


class Counted(NamedTuple):
    """A model as the user wrote it, and how many devices of it."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Part:
    """Hardware that works for `hours`; utilisations are ratios from 0 to 1, None where not given.

    `gpu_tdp_w` and `cpu_tdp_w` are the user's own figures, in W for one device, instead of the tables'.
    `where` is the part's position in a file, "" for that of the command line.
    """

    name: str
    hours: float
    gpus: tuple[Counted, ...] = ()
    cpus: tuple[Counted, ...] = ()
    gpu_utilization: float | None = None
    cpu_utilization: float | None = None
    memory_gb: float | None = None
    gpu_tdp_w: float | None = None
    cpu_tdp_w: float | None = None
    where: str = ""

    def key(self, word: str) -> str:
        """A key of the part for messages: `--hours`, or the position in the file and the key."""
        return _key(self.where, word)


def part_of(values: Mapping[str, Any], name: str = MAIN_PHASE, where: str = "") -> Part:
    """A part from its keys (`KEYS`), their values texts or numbers; raises ConfigError that names the key."""
    hours = _number(values, "hours", where, "a time in hours", 0.0, MAX_HOURS)
    if not hours:
        raise ConfigError(
            f"{_key(where, 'hours')}: give for how many hours the hardware works: a number above 0"
        )
    return Part(
        name,
        hours,
        _counted(values, "gpu", where),
        _counted(values, "cpu", where),
        _utilization(values, "gpu-utilization", where),
        _utilization(values, "cpu-utilization", where),
        _number(values, "memory-gb", where, "an amount of memory in GB", 0.001, MAX_MEMORY_GB),
        _number(values, "gpu-tdp", where, "a power in watts", 0.1, 100_000),
        _number(values, "cpu-tdp", where, "a power in watts", 0.1, 100_000),
        where,
    )


def _key(where: str, word: str) -> str:
    return f"{where}: {word!r:.60}" if where else f"--{word}"


def read_parts(path: Path) -> tuple[Part, ...]:
    """The parts of a TOML file, its `[[part]]` tables; raises ConfigError with file, part and key."""
    tables = read_toml(path)
    strange = [key for key in tables if key != "part"]
    entries = tables.get("part")
    if strange or not isinstance(entries, list) or not entries:
        what = f"it holds {strange[0]!r:.60}" if strange else "with double brackets, and it holds none"
        raise ConfigError(f"{path}: parts are [[part]] tables, {what}; see examples/estimate.toml")
    if len(entries) > MAX_PARTS:
        raise ConfigError(f"{path}: more than {MAX_PARTS} parts")
    parts = [_table_part(path, number, entry) for number, entry in enumerate(entries, start=1)]
    names = [part.name for part in parts]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ConfigError(f"{path}: two parts are called {double!r}; give each a name of its own")
    return tuple(parts)


def _table_part(path: Path, number: int, entry: Any) -> Part:
    where = f"{path}, part {number}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: not a table; parts are [[part]] tables")
    values: dict[str, Any] = {}
    for key, value in entry.items():
        word = key.replace("_", "-")
        if word not in KEYS:
            raise ConfigError(f"{_key(where, key)} is unknown; {meant(word, KEYS)}")
        if word in values:
            raise ConfigError(f"{_key(where, key)} is given twice, with a hyphen and with an underscore")
        values[word] = value
    name = values.pop("name", f"part {number}")
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise ConfigError(f"{_key(where, 'name')} must be a text of 1 to {LONGEST_NAME} characters")
    return part_of(values, name, where)


def _counted(values: Mapping[str, Any], key: str, where: str) -> tuple[Counted, ...]:
    given = values.get(key)
    texts = () if given is None else given if isinstance(given, (list, tuple)) else (given,)
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError(f'{_key(where, key)} must be a text or a list of texts: "V100-SXM2:10"')
    return _merged(_counted_one(text, _key(where, key)) for text in texts)


def _counted_one(text: str, place: str) -> Counted:
    """`NAME`, `NAME:COUNT` or `NAME xCOUNT`.

    A name may hold colons itself, only a number after the last one is a count.
    """
    name, colon, tail = text.rpartition(":")
    if not colon or not (_NUMBER.fullmatch(tail.strip()) or not tail.strip()):
        name, number = split_count(text)
        tail = "1" if number is None else str(number)
    if _COUNT.fullmatch(tail.strip()) is None or int(tail) > MAX_COUNT:
        raise ConfigError(
            f"{place}: {text!r:.80} is not NAME:COUNT with a count from 1 to {MAX_COUNT:,}; "
            "give for example V100-SXM2:10"
        )
    name = " ".join(name.split())
    if not name:
        raise ConfigError(f"{place}: {text!r:.80} names no model; give for example V100-SXM2:10")
    return Counted(name, int(tail))


def _merged(models: Iterable[Counted]) -> tuple[Counted, ...]:
    """The same name given twice is one model with both counts."""
    counts: dict[str, int] = {}
    for name, count in models:
        counts[name] = counts.get(name, 0) + count
    return tuple(Counted(name, count) for name, count in counts.items())


def _utilization(values: Mapping[str, Any], key: str, where: str) -> float | None:
    value = values.get(key)
    if value is not None and _is_percent(value):
        raise ConfigError(
            f"{_key(where, key)}: a utilisation is a ratio from 0 to 1: write {float(value) / 100:g} "
            f"for {float(value):g} %"
        )
    return _number(values, key, where, "a utilisation", 0.0, 1.0)


def _is_percent(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        return 1.0 < float(value) <= 100.0
    except (TypeError, ValueError, OverflowError):
        return False


def _number(
    values: Mapping[str, Any], key: str, where: str, what: str, low: float, high: float
) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigError(f"{_key(where, key)} must be a number")
    if isinstance(value, int) and value.bit_length() > 64:
        raise ConfigError(f"{_key(where, key)} is too large a number")
    return parse_number(str(value)[:40], _key(where, key), what, low, high)

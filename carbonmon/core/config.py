"""One frozen record of everything that a user can choose, and the checks that need no hardware."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Literal

from carbonmon.core import labels as run_labels
from carbonmon.core.budgets import WARN, Action, Budget, By
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import IdlePolicy
from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.core.spans import parse_bytes

DEFAULT_SENSORS = ("nvml", "rapl", "amdsmi", "gaudi", "hwmon", "levelzero", "tpu", "neuron", "tdp", "dram")
DEFAULT_NODE_METERS = ("acpi", "cray")
"""Local files, which cost nothing. What opens a connection or asks another processor is asked for by name."""

Charge = Literal["devices", "node"]
CHARGES: tuple[Charge, ...] = ("devices", "node")
"""Whose energy runs are charged with beside their own: nothing more, or the whole machine's."""

DEFAULT_EXPORTERS = ("prometheus", "summary")
DEFAULT_LISTEN = "127.0.0.1:9877"
DEFAULT_OUTPUT = Path("carbonmon-runs")
MIN_INTERVAL_S, MAX_INTERVAL_S = 0.05, 3600.0
MIN_CHECKPOINT_S, MAX_CHECKPOINT_S = 0.1, 3600.0
MAX_RETAIN_S = 7 * 86400.0
DEFAULT_KEEP_RUNS = "4GiB"
UNLIMITED = "unlimited"
RUN_RETAIN_S = 60.0
"""How long at most a monitor of one run has its end served, where nobody says otherwise."""

PUE_WORDS = ("region", "provider", "world")
WUE_WORDS = ("provider", "world")

_CURRENCY = pattern(r"[A-Z]{3}")
_HOST = pattern(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_RUN_ID = pattern(r"[A-Za-z0-9._-]{1,64}")
_LABEL_KEY = pattern(r"[^=\s]+")


class Config(NamedTuple):
    """The user's choices, checked. Units are in the names; None is "not chosen".

    `pue` (a ratio) and `wue` (litres per kWh) may be keywords for figures of the tables, `PUE_WORDS` and
    `WUE_WORDS`.
    """

    region: str | None = None
    intensity_g_per_kwh: float | None = None
    intensity_file: Path | None = None
    grid: tuple[str, ...] = ()
    pue: float | str = 1.0
    wue: float | str | None = None
    price_per_kwh: float | None = None
    price_file: Path | None = None
    currency: str | None = None
    interval_s: float = 1.0
    checkpoint_s: float = 5.0
    listen: tuple[str, int] = ("127.0.0.1", 9877)
    output: Path = DEFAULT_OUTPUT
    run_id: str | None = None
    resume: str | None = None
    attach: int | None = None
    redact_command: bool = False
    name: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    gpus: tuple[str, ...] | None = None
    gpu_model: str | None = None
    gpu_tdp_w: float | None = None
    cpu_model: str | None = None
    cpu_tdp_w: float | None = None
    dram_estimate: bool = True
    sysfs: Path = Path("/sys")
    procfs: Path = Path("/proc")
    sensors: tuple[str, ...] = DEFAULT_SENSORS
    exporters: tuple[str, ...] = DEFAULT_EXPORTERS
    quiet: bool = False
    idle: IdlePolicy = "proportional"
    retain_s: float = 900.0
    socket: Path | None = None
    own_monitor: bool = False
    web_config: Path | None = None
    targets: Path | None = None
    host: str | None = None
    user_names: bool = False
    budgets: tuple[Budget, ...] = ()
    on_budget: Action = WARN
    by: By = "total"
    status_line: bool = False
    pause_above_g_per_kwh: float | None = None
    node_meters: tuple[str, ...] = DEFAULT_NODE_METERS
    redfish_password_file: Path | None = None
    redfish_ca_file: Path | None = None
    charge: Charge = "devices"
    keep_runs_bytes: float = math.inf


def parse_number(text: str, option: str, what: str, low: float, high: float = math.inf) -> float:
    """A finite number from `low` to `high`; `what` names it and its unit in the error."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high):
        span = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ConfigError(f"{option}: {text!r} is not {what}: give a number {span}{_number_hint(text)}")
    return value


def _number_hint(text: str) -> str:
    """What stands in the way of a number: a comma, or a unit."""
    if re.fullmatch(r"\s*[-+]?\d+,\d+\s*", text):
        return ", with a point in place of the comma"
    unit = re.fullmatch(r"\s*[-+]?[\d.,]+\s*([^\d\s.,:-]\S{0,9})", text)
    return f", without the unit {unit[1]!r}" if unit else ""


def parse_intensity(text: str, option: str = "--intensity") -> float:
    """An intensity in gCO2e/kWh; a `g` or `kg` behind the number is taken.

    Raises `ConfigError` for figures between 0 and 1 without it: kilograms were meant, as the lowest figure
    above 0 in carbonmon/data/carbon_intensity.csv is 1.3 (Manitoba).
    """
    what = "an intensity in gCO2e/kWh"
    found = re.fullmatch(r"\s*([\d.]+(?:[eE][-+]?\d+)?)\s*(k?g)(?:\s*(?:CO2e?(?:q)?)?\s*/\s*kWh)?\s*", text)
    if found:
        scale = 1000.0 if found[2] == "kg" else 1.0
        parse_number(found[1], option, what, 0.0, 5000.0 / scale)
        return float(found[1]) * scale
    value = parse_number(text, option, what, 0.0, 5000.0)
    if 0.0 < value < 1.0:
        raise ConfigError(
            f"{option}: {text} gCO2e/kWh is less than any grid has: were kilograms meant? Then give "
            f"{value * 1000:g}; if grams were, {text.strip()}g"
        )
    return value


def parse_pue(text: str) -> float | str:
    """A ratio of 1 or more, or a word for a figure of the tables."""
    if text in PUE_WORDS:
        return text
    what = f"a PUE (facility energy over device energy, or {', '.join(PUE_WORDS)})"
    return parse_number(text, "--pue", what, 1.0, 10.0)


def parse_wue(text: str) -> float | str:
    """Litres per kWh, or a word for a figure of the tables."""
    if text in WUE_WORDS:
        return text
    what = f"a WUE (litres of water per kWh, or {', '.join(WUE_WORDS)})"
    return parse_number(text, "--wue", what, 0.0, 100.0)


def parse_currency(text: str) -> str:
    if _CURRENCY.fullmatch(text) is None:
        raise ConfigError(f"--currency: {text!r:.40} is not an ISO 4217 code: give for example EUR or USD")
    return text


def parse_listen(text: str) -> tuple[str, int]:
    """(host, port) of `127.0.0.1:9877`, `localhost:0`, `[::1]:9877` or `:9877` (every address)."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})", text)
    if match is None or int(match[3]) > 65535:
        if match is not None:
            raise ConfigError(
                f"--listen: {text!r} is not ADDRESS:PORT: a port is at most 65535; give for example "
                f"{DEFAULT_LISTEN}"
            )
        is_port = re.fullmatch(r"[1-9][0-9]{0,4}", text) is not None and int(text) <= 65535
        like = f"127.0.0.1:{text}" if is_port else DEFAULT_LISTEN
        raise ConfigError(
            f"--listen: {text!r} is not ADDRESS:PORT; give for example {like}, [::1]:9877 or "
            "127.0.0.1:0 for any free port"
        )
    return match[1] or match[2] or "0.0.0.0", int(match[3])


def parse_run_id(text: str) -> str:
    if text == "last":
        raise ConfigError("--run-id: 'last' is the word for the newest run; give another id")
    if _RUN_ID.fullmatch(text) is None or text in (".", ".."):
        raise ConfigError(
            f"--run-id: {text!r} does not fit: use 1 to 64 letters, digits, dots, underscores and hyphens"
        )
    return text


def parse_run_word(text: str) -> str:
    """A word for a run that is there: its id, its name, how its id begins, or `last`."""
    if not text or "/" in text or "\0" in text or text in (".", ".."):
        raise ConfigError(
            f"--resume: {text!r:.70} is no run's id or name; give one of those in the output folder, how its "
            "id begins, or last"
        )
    return text


def parse_host(text: str) -> str:
    if _HOST.fullmatch(text) is None:
        raise ConfigError(
            f"--host: {text!r:.40} is no name of a machine: use letters, digits, dots and hyphens"
        )
    return text


def parse_label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or _LABEL_KEY.fullmatch(key) is None:
        raise ConfigError(f"--label: {text!r} is not KEY=VALUE; give for example --label team=vision")
    return key, value


def check_labels(labels: tuple[tuple[str, str], ...]) -> None:
    """Raise `ConfigError` for labels that a run cannot have."""
    for key, _ in labels:
        if run_labels.is_reserved(key):
            raise ConfigError(
                f"--label: {key!r:.60} is a name that the metrics have already; choose another, for example "
                f"my_{run_labels.metric_name(key).strip('_'):.40}"
            )
    size = run_labels.size_bytes(labels)
    if size > run_labels.MAX_BYTES:
        raise ConfigError(
            f"--label: the labels have {size} bytes together, and a run has room for {run_labels.MAX_BYTES}: "
            "shorten them"
        )


def parse_keep_runs(text: str) -> float:
    """Bytes that the folders of runs may take; infinite for the word."""
    return math.inf if text.strip() == UNLIMITED else parse_bytes(text, "--keep-runs", f", or {UNLIMITED}")


def parse_list(text: str, option: str) -> tuple[str, ...]:
    """The entries of a comma-separated list; an empty text is an empty list, an empty entry a mistake."""
    if not text.strip():
        return ()
    entries = tuple(entry.strip() for entry in text.split(","))
    if not all(entries):
        raise ConfigError(f"{option}: {text!r} has an empty entry; separate names by single commas")
    return entries

"""Which option counts on which way into a run: one table for the code, its tests and the documentation.

A run is measured by the monitor of the command that began it, or by one that was there before. What only a
monitor can do is decided by its own options; what is said of a run goes with it to whichever monitor it has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from carbonmon.core.records import NamedTuple

WAYS = {
    "alone": "`carbonmon run`, own monitor",
    "nested": "`carbonmon run` inside a run",
    "rank": "ranks of one launch",
    "daemon": "the node's daemon",
    "socket": "a daemon named by `CARBONMON_SOCKET`",
    "track": "`track()` alone",
    "track_daemon": "`track()` with a daemon",
    "track_inside": "`track()` inside a run",
    "register": "`carbonmon register`",
}
"""The ways into a run, with what people call them."""

FOLLOWED, SAID, OWN, FIRST, REFUSED, NOTHING = "followed", "told", "own monitor", "first", "refused", "–"
OUTCOMES = {
    FOLLOWED: "it is followed",
    SAID: "it is not followed; if that makes a difference, a line on stderr says so, with what is in force",
    OWN: "the run gets a monitor of its own, which follows it; not where the daemon does the same anyway",
    FIRST: "it is followed for the first process; a later one that gives another value is told",
    REFUSED: "given with the command it ends it with exit code 2 before the job starts; else it is told",
    NOTHING: "there is nothing that it could change",
}
"""What can come of an option on a way, with the words of the documentation."""

_RULES = {
    "monitor": (FOLLOWED, SAID, FIRST, OWN, SAID, FOLLOWED, SAID, SAID, SAID),
    "run": (FOLLOWED, SAID, FIRST, FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, SAID, FOLLOWED),
    "output": (FOLLOWED, SAID, FIRST, FOLLOWED, FOLLOWED, FOLLOWED, SAID, SAID, SAID),
    "command": (FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, NOTHING),
    "messages": (FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, NOTHING, NOTHING, FOLLOWED),
    "terminal": (FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, FOLLOWED, NOTHING, NOTHING, NOTHING, NOTHING),
    "own": (FOLLOWED, OWN, OWN, OWN, OWN, FOLLOWED, OWN, SAID, SAID),
    "job": (FOLLOWED, OWN, OWN, OWN, OWN, SAID, SAID, SAID, SAID),
    "budget": (FOLLOWED, SAID, SAID, OWN, SAID, SAID, SAID, SAID, SAID),
    "pause": (FOLLOWED, REFUSED, REFUSED, OWN, REFUSED, SAID, SAID, SAID, SAID),
}
"""By what an option belongs to: the outcomes in the order of the ways."""


class Option(NamedTuple):
    """An option: the field of `Config` that it fills, what it belongs to, and how its text is compared."""

    name: str
    field: str | None
    belongs_to: str
    kind: str = "text"

    @property
    def parameter(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return f"CARBONMON_{self.parameter.upper()}"


class Choice(NamedTuple):
    """What somebody has chosen: an option, the text of its value, and how it was given.

    `is_argument`: with the command or the call itself, not in the environment or a file.
    """

    option: Option
    text: str
    shown: str
    is_argument: bool = False


OPTIONS = {
    option.name: option
    for option in (
        Option("region", "region", "monitor"),
        Option("intensity", "intensity_g_per_kwh", "monitor", "number"),
        Option("intensity-file", "intensity_file", "monitor", "path"),
        Option("grid", "grid", "monitor", "list"),
        Option("pue", "pue", "monitor", "number"),
        Option("wue", "wue", "monitor", "number"),
        Option("price", "price_per_kwh", "monitor", "number"),
        Option("price-file", "price_file", "monitor", "path"),
        Option("currency", "currency", "monitor"),
        Option("host", "host", "monitor"),
        Option("user-names", "user_names", "monitor", "flag"),
        Option("targets", "targets", "monitor", "path"),
        Option("web-config", "web_config", "monitor", "path"),
        Option("interval", "interval_s", "monitor", "number"),
        Option("checkpoint", "checkpoint_s", "monitor", "number"),
        Option("listen", "listen", "monitor", "address"),
        Option("output", "output", "output", "path"),
        Option("run-id", "run_id", "run"),
        Option("resume", "resume", "job"),
        Option("attach", "attach", "job", "number"),
        Option("redact-command", "redact_command", "command", "flag"),
        Option("name", "name", "run"),
        Option("label", "labels", "run", "labels"),
        Option("gpus", "gpus", "run", "list"),
        Option("gpu-model", "gpu_model", "monitor"),
        Option("gpu-tdp", "gpu_tdp_w", "monitor", "number"),
        Option("cpu-model", "cpu_model", "monitor"),
        Option("cpu-tdp", "cpu_tdp_w", "monitor", "number"),
        Option("idle", "idle", "run"),
        Option("budget", "budgets", "budget", "budgets"),
        Option("on-budget", "on_budget", "budget", "action"),
        Option("by", "by", "budget"),
        Option("status-line", "status_line", "terminal", "flag"),
        Option("pause-above", "pause_above_g_per_kwh", "pause", "number"),
        Option("own-monitor", "own_monitor", "own", "flag"),
        Option("retain", "retain_s", "monitor", "number"),
        Option("socket", "socket", "place", "path"),
        Option("keep-runs", "keep_runs_bytes", "place", "size"),
        Option("no-dram-estimate", "dram_estimate", "monitor", "flag"),
        Option("sysfs", "sysfs", "monitor", "path"),
        Option("procfs", "procfs", "monitor", "path"),
        Option("sensor", "sensors", "monitor", "list"),
        Option("node-meter", "node_meters", "monitor", "list"),
        Option("charge", "charge", "monitor"),
        Option("redfish-password-file", "redfish_password_file", "monitor", "path"),
        Option("redfish-ca-file", "redfish_ca_file", "monitor", "path"),
        Option("exporter", "exporters", "monitor", "list"),
        Option("quiet", "quiet", "messages", "flag"),
        Option("log-level", None, "messages"),
        Option("log-format", None, "messages"),
    )
}
"""All options that commands share, by name; `socket` is itself a way into a run and has no outcome, and
`keep-runs` is for ended runs."""

_INSTEAD = ("region", "intensity", "intensity-file", "grid"), ("price", "price-file")
"""Options of which one takes the place of another."""

EXCLUSIVE = ("region", "intensity"), ("intensity", "intensity-file", "grid"), ("price", "price-file")
"""Options that exclude one another: of several the one counts that was given nearest to the command."""

_TRUE = ("1", "true", "t", "yes", "y", "on")
_FALSE = ("0", "false", "f", "no", "n", "off", "")
"""What click takes for true, and for false (`click.types.BoolParamType`)."""


def displaced(places: Mapping[str, int]) -> set[str]:
    """Of the options that were given, each from a place, those in whose stead one from a nearer place counts.

    The nearest place is the highest number. One that does not count itself takes the place of no other.
    """
    counting: set[str] = set()
    for name in sorted(places, key=places.__getitem__, reverse=True):
        others = {other for names in EXCLUSIVE if name in names for other in names}
        if all(places[other] <= places[name] for other in others & counting):
            counting.add(name)
    return places.keys() - counting


def outcome(option: Option, way: str) -> str:
    """What comes of an option that is given on a way."""
    return _RULES[option.belongs_to][list(WAYS).index(way)]


def shown(text: str) -> str:
    """A value as it may stand in a log: without the name and password of an address."""
    return re.sub(r"//[^/@\s]*@", "//…@", text)


def is_true(text: str) -> bool:
    """Whether the text of a flag's variable sets it."""
    return text.strip().lower() in _TRUE


def is_false(text: str) -> bool:
    """Whether the text of a flag's variable says clearly that it is not set."""
    return text.strip().lower() in _FALSE


def is_same(option: Option, one: str | None, other: str | None) -> bool:
    """Whether two texts of an option mean the same."""
    return one is not None and other is not None and _normal(option, one) == _normal(option, other)


def in_force(option: Option, settings: Mapping[str, str | None]) -> str:
    """What a monitor uses in place of an option, in words."""
    value = settings.get(option.name)
    if value is not None:
        return f"it uses {shown(value) or 'none'}"
    group: tuple[str, ...] = next((names for names in _INSTEAD if option.name in names), ())
    for name in group:
        if settings.get(name):
            return f"it uses --{name} {settings[name]}"
    return "it uses the world average" if "region" in group else "it uses none"


def _normal(option: Option, text: str) -> object:
    text = text.strip()
    if option.kind == "number":
        try:
            return float(text)
        except ValueError:
            return text
    if option.kind == "flag":
        return is_true(text)
    if option.kind == "list":
        return tuple(entry.strip() for entry in text.split(","))
    if option.kind == "address":
        host, _, port = text.rpartition(":")
        return host.strip("[]") or "0.0.0.0", port
    return text

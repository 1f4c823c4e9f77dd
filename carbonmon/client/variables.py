"""The CARBONMON_ variables of an environment: what they choose, misspelt ones, and a mark of all of them.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from carbonmon.client.protocol import RUN_VARIABLE, SEEN_VARIABLE, SOCKET_VARIABLE
from carbonmon.client.trust import why_not
from carbonmon.core.ways import OPTIONS

PREFIX = "CARBONMON_"
CONFIG_VARIABLE = "CARBONMON_CONFIG"
CONFIG_NAME = "carbonmon.toml"

OTHERS = (
    *(SOCKET_VARIABLE, RUN_VARIABLE, SEEN_VARIABLE, CONFIG_VARIABLE),
    *("CARBONMON_OFF", "CARBONMON_DISABLE", "CARBONMON_DEBUG", "CARBONMON_DATA", "CARBONMON_KEYS_FILE"),
    *("CARBONMON_NODE", "CARBONMON_API_URL", "CARBONMON_SERVICE_ACCOUNT"),
    *("CARBONMON_PUSHGATEWAY_USERNAME", "CARBONMON_PUSHGATEWAY_PASSWORD"),
    *("CARBONMON_PROMETHEUS_USERNAME", "CARBONMON_PROMETHEUS_PASSWORD"),
    *("CARBONMON_PROMETHEUS_PASSWORD_FILE", "CARBONMON_PROMETHEUS_TOKEN_FILE"),
    *("CARBONMON_PROMETHEUS_TOKEN", "CARBONMON_PROMETHEUS_TENANT"),
    *("CARBONMON_TOP_USERNAME", "CARBONMON_TOP_PASSWORD", "CARBONMON_TOP_PASSWORD_FILE"),
    *("CARBONMON_ELECTRICITYMAPS_TOKEN", "CARBONMON_ELECTRICITYMAPS_URL"),
    *("CARBONMON_WATTTIME_USERNAME", "CARBONMON_WATTTIME_PASSWORD", "CARBONMON_WATTTIME_URL"),
    *("CARBONMON_UK_URL", "CARBONMON_RTE_URL", "CARBONMON_DK_URL"),
)
"""The variables that are no options: addresses, keys, and what carbonmon tells the processes of a run."""

ONLY_OPTIONS = ("START", "FOR", "WITHIN")
"""Options of `carbonmon run` that have no variable: they are of one start."""

_OWN = frozenset((SOCKET_VARIABLE, RUN_VARIABLE, SEEN_VARIABLE))
_LIKE = 0.75
"""How much two names must have in common (difflib's ratio): CARBONMON_BMC_HOST is not meant to be _HOST."""


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that means nothing and looks like one that does, also in another case.

    One that begins with the name of an installed plug-in (CARBONMON_MYGRID_TOKEN) is that plug-in's.
    """
    known = {option.variable for option in OPTIONS.values()} | set(OTHERS)
    unknown = {
        name: name.upper().removeprefix(PREFIX)
        for name in environ
        if name.upper().startswith(PREFIX) and name not in known
    }
    if not unknown:
        return []
    import difflib

    meant = {name.removeprefix(PREFIX): name for name in sorted(known - _OWN)}
    hints = {}
    for name, end in unknown.items():
        # With a prefix in lower case it may be somebody's own, unless but for the case it is one of ours.
        near = difflib.get_close_matches(end, meant, 1, _LIKE if name.startswith(PREFIX) else 1.0)
        if end in ONLY_OPTIONS and name.startswith(PREFIX):
            hints[name] = f"--{end.lower()} stands on the command line only"
        elif near:
            hints[name] = f"did you mean {meant[near[0]]}?"
    theirs = tuple(f"{name}_" for name in _plugins()) if hints else ()
    return [
        f"{name} is no variable of carbonmon: {hint}"
        for name, hint in sorted(hints.items())
        if not unknown[name].startswith(theirs)
    ]


def config_file(environ: Mapping[str, str]) -> str | None:
    """The file of options that counts for this process; None without one."""
    if environ.get(CONFIG_VARIABLE):
        return environ[CONFIG_VARIABLE]
    home = Path(environ.get("XDG_CONFIG_HOME") or "~/.config")
    for place in (CONFIG_NAME, home / "carbonmon" / CONFIG_NAME):
        path = os.path.expanduser(place)  # noqa: PTH111 (Path's raises where there is no home)
        if os.path.isfile(path) and not (place is CONFIG_NAME and why_not(Path(path))):  # noqa: PTH113
            return path  # isfile is False for a folder that may not be entered
    return None


def distrusted(environ: Mapping[str, str]) -> list[str]:
    """A line for a file of options in the working folder that others may have written: it does not count."""
    path = Path(CONFIG_NAME)
    if environ.get(CONFIG_VARIABLE) or not os.path.isfile(path):  # noqa: PTH113 (as above)
        return []
    reason = why_not(path)
    if not reason:
        return []
    return [
        f"{path.absolute()} is ignored: {reason}; what counts is a file of yours or root's that no other "
        f"user may write into, or one that is named: --config {CONFIG_NAME}"
    ]


def mark(environ: Mapping[str, str]) -> str:
    """A checksum of the options that the environment and the working folder give a process."""
    options = {option.variable for option in OPTIONS.values()}
    names = sorted(name for name in environ if name.startswith(PREFIX) and name not in _OWN)
    parts = [f"{name}={environ[name] if name in options else ''}" for name in names]  # else it may be a key
    path = config_file(environ)
    if path is not None:
        from carbonmon.core.files import absolute

        parts.append(str(absolute(Path(path))))
    return f"{zlib.crc32(chr(0).join(parts).encode('utf-8', 'replace')):08x}"


def are_seen(environ: Mapping[str, str]) -> bool:
    """Whether the command that began our run has had the same options in its environment."""
    return bool(environ.get(RUN_VARIABLE)) and environ.get(SEEN_VARIABLE) == mark(environ)


def _plugins() -> Iterable[str]:
    from importlib.metadata import entry_points

    for kind in ("sensors", "node_meters", "intensity", "grid", "exporters"):
        for entry in entry_points(group=f"carbonmon.{kind}"):
            yield entry.name.upper().replace("-", "_")

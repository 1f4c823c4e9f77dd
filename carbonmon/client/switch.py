"""The switch that turns carbonmon off: programs then run as if it were not there.

Imported by the training process: standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping

OFF_VARIABLES = "CARBONMON_OFF", "CARBONMON_DISABLE"
"""The second one is the first one's earlier name."""

_NOT = frozenset(("", "0", "false", "no"))


def is_off(environ: Mapping[str, str]) -> bool:
    """Whether a variable says so: with any value but "", `0`, `false` and `no`."""
    return any(environ.get(name, "").strip().lower() not in _NOT for name in OFF_VARIABLES)

"""Finds the chassis whose power is the node's, and reads what its documents say of power and energy; pure.

Sources: DMTF's schemas Chassis, EnvironmentMetrics and Power. Chassis contain one another: one with
`Links.ContainedBy` is a part. `EnvironmentMetrics` holds excerpts of sensors, objects with `Reading`, a
number or null. `LifetimeReading` of an energy is never reset; `Reading` may be, and `SensorResetTime` says
when. `Power` is the older document: the first of its `PowerControl` is the whole, others are parts of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.core.node_meter import NodeReading
from carbonmon.core.records import NamedTuple
from carbonmon.core.typed import LARGEST

UJ_PER_J = 1e6
_ENERGIES_J = {"EnergyJoules": 1.0, "EnergykWh": 3_600_000.0}
"""The energies of EnvironmentMetrics, the finer first, with the joules of one unit."""

Document = Mapping[str, Any]


class Links(NamedTuple):
    """Where a chassis has its power: the paths of its documents, "" for one that it lacks."""

    metrics: str
    power: str


def references(document: Document, key: str) -> list[str]:
    """The paths that a list of references leads to."""
    found = document.get(key)
    return [path for item in found if (path := reference(item))] if isinstance(found, list) else []


def reference(link: Any) -> str:
    """The path that one reference leads to, "" for none."""
    path = link.get("@odata.id") if isinstance(link, dict) else None
    return path if isinstance(path, str) and path.startswith("/") else ""


def is_part(chassis: Document) -> bool:
    """Whether it lies in another chassis, whose power holds its own."""
    links = chassis.get("Links")
    return isinstance(links, dict) and bool(reference(links.get("ContainedBy")))


def links_of(chassis: Document) -> Links:
    """The documents of a chassis that may tell its power."""
    return Links(reference(chassis.get("EnvironmentMetrics")), reference(chassis.get("Power")))


def reading_of(document: Document) -> NodeReading:
    """What a document of either kind says; None for what it does not."""
    control = document.get("PowerControl")
    if isinstance(control, list):
        first = control[0] if control and isinstance(control[0], dict) else {}
        return NodeReading(power_w=_number(first.get("PowerConsumedWatts")))
    power_w = _number(_excerpt(document, "PowerWatts").get("Reading"))
    for field in ("LifetimeReading", "Reading"):
        for key, unit_j in _ENERGIES_J.items():
            excerpt = _excerpt(document, key)
            energy = _number(excerpt.get(field))
            if energy is not None:
                since = excerpt.get("SensorResetTime") if field == "Reading" else None
                line = " ".join(filter(None, (f"{key}.{field}", since if isinstance(since, str) else "")))
                return NodeReading(power_w, round(energy * unit_j * UJ_PER_J), line)
    return NodeReading(power_w)


def _excerpt(document: Document, key: str) -> Document:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    """A possible quantity; 0 is none, because the machine that asks runs."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 < value <= LARGEST else None

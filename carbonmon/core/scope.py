"""Which of the devices that the sensors offer are counted, so that no joule is in two of them; pure.

A device measures its own part of the machine and the parts that it contains. Two devices that may share a
part are never both counted:

1. What is measured comes before what is estimated. An estimate of anything that is in a measured device is
   left out, a whole or a part alike.
2. Of a whole and its parts, equally measured or equally estimated, the parts are counted if together they
   are all of the whole and each is known by as good a method: a counter misses nothing between two readings,
   power does. Else the whole is counted.
3. Of two devices that overlap without one holding the other, equally measured or equally estimated, the one
   with more kinds of parts is counted, else the one that was offered first. Of two meters of the same parts
   the one with the better method is counted, else the first.

A device without any method covers nothing and takes no other's place. It stays, so that it is seen.
"""

from __future__ import annotations

from collections.abc import Mapping

from carbonmon.core.model import METHODS, Device, Part
from carbonmon.core.records import NamedTuple


class LeftOut(NamedTuple):
    """A device that is not counted, and the counted devices that have its energy."""

    device: Device
    holders: tuple[Device, ...]

    @property
    def reason(self) -> str:
        """Why it is not counted, for people."""
        names = ", ".join(holder.id for holder in self.holders)
        how = "measured" if self.holders[0].is_measured else "estimated"
        return f"its energy, or a part of it, is in {names} ({how}): it would be counted twice"


class Decision(NamedTuple):
    """The devices that are counted, by id in the order in which they were offered, and all others."""

    counted: dict[str, Device]
    left_out: tuple[LeftOut, ...]


class _Scope(NamedTuple):
    """The parts that a device certainly measures, and those that it may measure."""

    sure: frozenset[Part]
    possible: frozenset[Part]


def decide(devices: Mapping[str, Device]) -> Decision:
    """Choose the devices to count of all that are offered, by id."""
    devices = {name: _with_dies(device, devices) for name, device in devices.items()}
    contained = {part for device in devices.values() for part in device.contains}
    entangled = {
        name: device
        for name, device in devices.items()
        if device.contains or any(_may_be(_own_part(device), part) for part in contained)
    }
    scopes = _scopes(entangled)
    chosen: list[str] = []
    for is_measured in (True, False):
        rivals = [
            name for name, each in entangled.items() if each.methods and each.is_measured == is_measured
        ]
        free = [name for name in rivals if not any(_overlap(scopes[name], scopes[other]) for other in chosen)]
        ranks = {name: METHODS.index(devices[name].methods[0]) for name in free}
        free.sort(key=ranks.__getitem__)
        chosen += _choose({name: scopes[name] for name in free}, ranks)
    left = {name for name, device in entangled.items() if device.methods and name not in chosen}
    counted = {name: device for name, device in devices.items() if name not in left}
    left_out = []
    for name, device in entangled.items():
        if name in left:
            holders = [devices[other] for other in chosen if _overlap(scopes[name], scopes[other])]
            measured = [holder for holder in holders if holder.is_measured]
            left_out.append(LeftOut(device, tuple(measured or holders)))
    return Decision(counted, tuple(left_out))


def contents_text(device: Device) -> str:
    """What a device contains, for people: "gpu GPU-1, cpu 0, all dram"; "" for one that is only itself."""
    return ", ".join(
        f"all {part.component}"
        if part.device_id is None and part.number is None
        else f"{part.component} {part.number if part.device_id is None else part.device_id}"
        for part in device.contains
    )


def _choose(scopes: Mapping[str, _Scope], ranks: Mapping[str, int]) -> list[str]:
    """Of devices that are equally well known those to count, by the second and the third rule.

    `ranks` are the places of their methods, the best one 0.
    """
    nested = _without_partial_overlaps(scopes)
    inside = {
        name: sum(_holds(scope, other) and not _holds(other, scope) for other in nested.values())
        for name, scope in nested.items()
    }
    chosen: list[str] = []
    for name in sorted(nested, key=inside.__getitem__):  # parts before wholes
        scope = nested[name]
        parts = [other for other in chosen if _overlap(scope, nested[other])]
        measured_by_parts = frozenset[Part]().union(*(nested[other].sure for other in parts))
        is_better = any(ranks[name] < ranks[other] for other in parts)
        if is_better or not scope.possible <= measured_by_parts:
            chosen = [other for other in chosen if other not in parts] + [name]
    return chosen


def _without_partial_overlaps(scopes: Mapping[str, _Scope]) -> dict[str, _Scope]:
    """Devices of which any two have nothing in common, or one holds the other; those of most kinds first."""
    kept: dict[str, _Scope] = {}
    for name in sorted(scopes, key=lambda name: -_kinds(scopes[name])):
        scope = scopes[name]
        if all(
            not _overlap(scope, other) or _holds(scope, other) or _holds(other, scope)
            for other in kept.values()
        ):
            kept[name] = scope
    return kept


def _scopes(devices: Mapping[str, Device]) -> dict[str, _Scope]:
    """Each device's parts among all parts that any device is or contains, by its id."""
    declared = {name: _parts(device, devices) for name, device in devices.items()}
    universe = {part for parts in declared.values() for part in parts}
    # "All dram" is no part beside the memory that there is: it stands for that.
    universe = {part for part in universe if not any(_is_in(other, part) for other in universe)}
    return {
        name: _Scope(
            frozenset(one for one in universe if any(_is_in(one, part) or one == part for part in parts)),
            frozenset(one for one in universe if any(_may_be(one, part) for part in parts)),
        )
        for name, parts in declared.items()
    }


def _with_dies(device: Device, devices: Mapping[str, Device]) -> Device:
    """A package that is offered beside its dies holds them, also where it was offered before them.

    One that says that it holds all of its dies is these, and nothing else of its own.
    """
    if device.component != "cpu" or device.contains not in ((), (Part("cpu", device.index),)):
        return device
    dies = [Part("cpu", None, name) for name in devices if name.startswith(f"{device.id}-die-")]
    return device._replace(contains=tuple(dies)) if dies else device


def _own_part(device: Device) -> Part:
    return Part(device.component, device.index, device.id)


def _parts(device: Device, devices: Mapping[str, Device]) -> list[Part]:
    """A module's parts are what it contains, those of a package its dies where these are offered; any other
    device is a part itself. Ids get their numbers."""
    die = f"{device.id}-die-"
    has_dies = bool(device.contains) and all(
        (part.device_id or "").startswith(die) for part in device.contains
    )
    is_its_parts = (device.component == "module" and device.contains) or has_dies
    found = [] if is_its_parts else [_own_part(device)]
    for part in device.contains:
        named = devices.get(part.device_id or "")
        is_named = named is not None and named.component == part.component
        found.append(part._replace(number=named.index) if named is not None and is_named else part)
    return found


def _is_in(inner: Part, outer: Part) -> bool:
    """Whether `inner` is certainly within `outer`, and less than it."""
    return inner != outer and all(
        wide is None or wide == narrow for wide, narrow in zip(outer, inner, strict=True)
    )


def _may_be(one: Part, other: Part) -> bool:
    """Whether two parts may be the same, or one within the other: an unknown number may be any."""
    return all(a is None or b is None or a == b for a, b in zip(one, other, strict=True))


def _overlap(one: _Scope, other: _Scope) -> bool:
    return not one.possible.isdisjoint(other.possible)


def _holds(whole: _Scope, part: _Scope) -> bool:
    return part.possible <= whole.sure


def _kinds(scope: _Scope) -> int:
    return len({part.component for part in scope.possible})

"""Laws of what is counted: whatever scopes a machine offers, no joule is in two devices, none is lost."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import Component, Device, Method, Part
from carbonmon.core.scope import decide

KINDS: tuple[Component, ...] = ("gpu", "cpu", "dram")


class Thing(NamedTuple):
    """A piece of a real machine that draws power. Several dies of a package have its index."""

    component: Component
    index: int
    id: str


MACHINE = [
    *[Thing("gpu", index, f"GPU-{index}") for index in range(3)],
    *[Thing("cpu", 0, f"package-0-die-{die}") for die in range(2)],
    *[Thing("cpu", index, f"package-{index}") for index in (1, 2)],
    *[Thing("dram", index, f"dram-{index}") for index in range(3)],
]

METHODS: list[tuple[Method, ...]] = [("counter",), ("counter", "power", "tdp"), ("power",), ("tdp",), ()]

parts = st.one_of(
    st.sampled_from(KINDS).map(Part),
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.none()).map(lambda fields: Part(*fields)),
    st.sampled_from(MACHINE).map(lambda thing: Part(thing.component, None, thing.id)),
)


@st.composite
def offers(draw: st.DrawFn) -> dict[str, Device]:
    """Devices for some things of the machine, modules of several, and more meters of the same things."""
    devices = []
    for thing in draw(st.lists(st.sampled_from(MACHINE), unique=True)):
        contains = tuple(draw(st.lists(parts, max_size=2)))
        index = draw(st.sampled_from((thing.index, None)))
        methods = draw(st.sampled_from(METHODS))
        devices.append(Device(thing.id, thing.component, "", index, methods, contains=contains))
    for number in range(draw(st.integers(0, 4))):
        contains = tuple(draw(st.lists(parts, min_size=1, max_size=5)))
        methods = draw(st.sampled_from(METHODS))
        devices.append(Device(f"module-{number}", "module", "", number, methods, contains=contains))
    return {device.id: device for device in draw(st.permutations(devices))}


def covered(device: Device) -> set[Thing]:
    """The things that a meter really measures."""
    found = {thing for thing in MACHINE if thing.id == device.id}
    for part in device.contains:
        found |= {
            thing
            for thing in MACHINE
            if thing.component == part.component
            and part.number in (None, thing.index)
            and part.device_id in (None, thing.id)
        }
    return found


@given(offers())
def test_no_joule_is_in_two_devices(offered: dict[str, Device]):
    counted = decide(offered).counted.values()
    times = Counter(thing for device in counted if device.methods for thing in covered(device))
    assert all(count == 1 for count in times.values()), times


@given(offers())
def test_nothing_measured_is_left_out_in_favour_of_an_estimate(offered: dict[str, Device]):
    for device, holders in decide(offered).left_out:
        assert holders
        if device.is_measured:
            assert all(holder.is_measured for holder in holders)


@given(offers())
def test_what_is_left_out_shares_a_part_with_what_is_counted_and_nothing_disappears(
    offered: dict[str, Device],
):
    counted, left_out = decide(offered)
    assert [*counted, *[each.device.id for each in left_out]] == sorted(
        offered, key=lambda name: (name not in counted, list(offered).index(name))
    )
    for device, holders in left_out:
        assert device.methods
        assert all(counted[holder.id] is holder for holder in holders)


@given(offers())
def test_a_measured_device_stays_measured_if_scopes_are_nested(offered: dict[str, Device]):
    """Of overlapping scopes one holds the other, as on real machines: then nothing measured is lost.

    A device without a number, and an id that no device has, may be a part of anything: they are not tried.
    """
    named = {name: device for name, device in offered.items() if device.index is not None}
    nested: dict[str, Device] = {}
    for name, device in named.items():
        own = covered(device)
        others = [covered(other) for other in nested.values()]
        is_numbered = all(part.device_id is None for part in device.contains)
        if own and is_numbered and all(own <= it or it <= own or not own & it for it in others):
            nested[name] = device
    kept = [covered(device) for device in decide(nested).counted.values() if device.is_measured]
    everything = set[Thing]().union(*kept)
    for device in nested.values():
        if device.is_measured and device.component != "module":
            assert {thing for thing in MACHINE if thing.id == device.id} <= everything

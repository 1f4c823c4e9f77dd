"""What the fuzz tests draw: any text, any JSON, any snapshot of a monitor, and damage to files."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import types
from collections.abc import Callable, Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from carbonmon.core.budgets import BudgetState
from carbonmon.core.forecast import Forecast
from carbonmon.core.model import (
    Charge,
    Cost,
    Device,
    DeviceState,
    Meter,
    NodeTotal,
    ResumePoint,
    RunInfo,
    RunState,
    RunTotal,
    Snapshot,
)
from carbonmon.core.node_meter import NodeCharge, NodeEnergy, NodeMeterState
from tests.support import records

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
"""JSON spells a character beyond U+FFFF and its two surrogates alike, so no file can tell them apart."""

TEXT = (
    st.text(st.characters(), max_size=12).filter(lambda text: not _PAIR.search(text))
    | st.sampled_from(records.HOSTILE_TEXTS)
    | st.just(records.UNDECODABLE)
)
AMOUNT = st.floats(0.0, 1e29) | st.sampled_from([0.0, 5e-324, 2.2e-308, 0.1 + 0.2, 2.0**53 + 2, 1e29])
RATIO = st.floats(0.0, 1.0)
COUNT = st.integers(0, 2**64) | st.sampled_from([2**53 + 1, 10**30])
_RATIOS = ("low_ratio", "share_ratio", "assumed_utilization_ratio")

NUMBERS = (
    st.integers()
    | st.sampled_from([-1, 2**53 + 1, 2**64, 10**29, 10**31, 10**400, -(10**400), 10**4000])
    | st.floats()
    | st.sampled_from([-0.0, 1e-320, 1e308, -1e-9])
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT | st.sampled_from(["counter", "gpu", "package-0", "main"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


def record(kind: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any record of a kind as its annotations allow it; `fields` are drawn as stated."""
    hints = get_type_hints(kind)
    return st.builds(
        kind, **{key: fields[key] if key in fields else _fitting(key, hint) for key, hint in hints.items()}
    )


def _fitting(key: str, hint: Any) -> st.SearchStrategy[Any]:
    options = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return st.none() | _fitting(key, next(option for option in options if option is not type(None)))
    if get_origin(hint) is Literal:
        return st.sampled_from(options)
    if get_origin(hint) is tuple and options[-1] is ...:
        return st.lists(_fitting(key, options[0]), max_size=3).map(tuple)
    if get_origin(hint) is tuple:
        return st.tuples(*(_fitting(key, option) for option in options))
    if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        return record(hint)
    return {float: RATIO if key in _RATIOS else AMOUNT, int: COUNT, str: TEXT, bool: st.booleans()}[hint]


RUN_IDS = st.text("abcXYZ019_-", min_size=1, max_size=64)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any snapshot of one run, as it is after it was read back: without what a checkpoint leaves out."""
    devices = draw(st.lists(record(Device), max_size=3, unique_by=lambda device: device.id))
    ids = [device.id for device in devices]
    totals = st.lists(
        record(RunTotal, device_id=st.sampled_from([*ids, "gone"])),
        max_size=4,
        unique_by=lambda row: (row.phase, row.device_id, row.method),
    )
    node = st.lists(record(NodeTotal), max_size=3, unique_by=lambda row: row.device_id)
    named_s = st.dictionaries(TEXT, AMOUNT, max_size=3).map(lambda seconds: tuple(seconds.items()))
    shares = st.dictionaries(TEXT, TEXT, max_size=3).map(lambda notes: tuple(notes.items()))
    gpus = st.one_of(st.none(), named_s)
    resume_point = st.one_of(st.none(), record(ResumePoint, gpus=gpus))
    node_meters = st.lists(record(NodeEnergy), max_size=2, unique_by=lambda total: total.meter)
    run = record(
        RunState,
        info=record(RunInfo, id=RUN_IDS),
        totals=totals.map(tuple),
        power_w=st.just(tuple((device_id, None) for device_id in ids)),
        unobserved_s=named_s,
        doubts_j=st.one_of(st.none(), named_s),
        phases_s=named_s,
        exit_code=st.none(),
        signal=st.none(),
        node=node.map(tuple),
        shares=shares,
        processes=st.none(),
        forecast=st.none(),
        forecasts=st.lists(record(Forecast), max_size=1).map(tuple),
        budgets=st.lists(record(BudgetState), max_size=1).map(tuple),
        resume_point=resume_point,
        charges=st.lists(record(Charge), max_size=3, unique_by=lambda row: row[:6]).map(tuple),
        costs=st.lists(record(Cost), max_size=2, unique_by=lambda cost: cost.currency).map(tuple),
        peaks_w=st.dictionaries(TEXT, st.none() | AMOUNT, max_size=3).map(lambda peaks: tuple(peaks.items())),
        node_meters=node_meters.map(tuple),
        node_charges=st.lists(record(NodeCharge), max_size=2, unique_by=lambda row: row.meter).map(tuple),
    )
    snapshot: Snapshot = draw(
        record(
            Snapshot,
            runs=run.map(lambda state: (state,)),
            devices=st.tuples(*(record(DeviceState, device=st.just(device)) for device in devices)),
            sensors=st.just(()),
            exporter_errors=st.just(()),
            price_per_kwh=st.none(),
            fetch_errors=st.just(()),
            meters=st.tuples(*(st.tuples(st.just(device_id), record(Meter)) for device_id in ids)),
            continued=st.just(True),
            node_meters=node_meters.map(lambda totals: tuple(map(NodeMeterState, totals))),
        )
    )
    return snapshot


def damaged_bytes(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes of a file cut off, with bytes changed, or with others put in."""
    place = st.integers(0, max(0, len(data) - 1))
    return st.one_of(
        place.map(lambda end: data[:end]),
        st.builds(lambda at, byte: data[:at] + bytes([byte]) + data[at + 1 :], place, st.integers(0, 255)),
        st.builds(lambda at, bit: _flipped(data, at, bit), place, st.integers(0, 7)),
        st.builds(lambda at, more: data[:at] + more + data[at:], place, st.binary(min_size=1, max_size=8)),
        st.builds(lambda at, less: data[:at] + data[at + less :], place, st.integers(1, 40)),
        st.binary(max_size=60),
    )


def _flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


@st.composite
def damaged_json(draw: st.DrawFn, document: Any) -> bytes:
    """A JSON document with up to three of its values replaced, removed or joined by others."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "replace", "remove", "add", "twice"]))
        if change == "replace":
            container[key] = draw(ANY_JSON)
        elif change == "remove":
            del container[key]
        elif isinstance(container, list):
            container.append(draw(ANY_JSON) if change == "add" else copy.deepcopy(container[key]))
        else:
            container[draw(TEXT)] = draw(ANY_JSON)
    return json.dumps(document).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


HOSTILE_FILES: dict[str, Callable[[str], bytes]] = {
    "empty": lambda schema: b"",
    "white": lambda schema: b" \n\n",
    "binary": lambda schema: bytes(range(256)),
    "not UTF-8": lambda schema: b'{"schema": "\xff"}',
    "UTF-16": lambda schema: f'{{"schema": "{schema}"}}'.encode("utf-16"),
    "a bomb of lists": lambda schema: b"[" * 100_000,
    "a bomb of objects": lambda schema: b'{"schema":' * 100_000,
    "a long number": lambda schema: b"9" * 100_000,
    "a long number in place": lambda schema: f'{{"schema": "{schema}", "at_s": {"9" * 100_000}}}'.encode(),
    "no number": lambda schema: f'{{"schema": "{schema}", "at_s": NaN}}'.encode(),
    "infinity": lambda schema: f'{{"schema": "{schema}", "at_s": 1e999}}'.encode(),
    "a newer schema": lambda schema: f'{{"schema": "{schema[:-1]}9"}}'.encode(),
    "a schema that is none": lambda schema: b'{"schema": {"schema": []}}',
    "a list": lambda schema: b"[]",
    **{
        f"{depth} deep": lambda schema, depth=depth: (  # type: ignore[misc]
            f'{{"schema": "{schema}", "run": {"[" * depth}{"]" * depth}, "devices": []}}'.encode()
        )
        for depth in (100, 900, 940, 970, 990, 5000)
    },
}
"""Whole files, made for a schema, that once brought down or may bring down a reader of JSON."""

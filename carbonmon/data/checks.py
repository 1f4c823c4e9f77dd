"""What must hold of the tables before they may be used: each rule yields the faults that it finds.

Rules look at one table (`_ROWS`, `_TABLES`) or at several (`_ACROSS`). Ranges are wide: they catch slips of
the decimal point and of the unit, they do not judge a source.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping

from carbonmon.data import (
    ACCELERATORS,
    CLOUD_REGIONS,
    CORRECTIONS,
    CPUS,
    EMBODIED,
    FORMATS,
    GPU_PEAKS,
    GPUS,
    INTENSITIES,
    NVML_NAMES,
    OVERHEADS,
    PLACES,
    Row,
)
from carbonmon.data.corrections import WHOLE_ROW
from carbonmon.data.table import Fault, Record, Table

MAX_G_PER_KWH = 1500.0
"""Above what any grid emits: lignite alone is at some 1,200."""
ZONE_TYPES = (
    *("country", "world", "region", "us_state", "egrid_subregion", "cn_province", "in_state"),
    *("bidding_zone", "ca_province", "au_state"),
)
PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "fp8")
EMBODIED_COMPONENTS = ("gpu", "cpu", "memory", "server")
END_OF_LIFE = ("included", "excluded", "not stated")
_BARE_FAMILIES = frozenset(("", "xeon", "epyc", "ryzen", "opteron", "core", "processor"))

Tables = Mapping[str, Table]


def faults(tables: Tables) -> list[Fault]:
    """All that is wrong with the tables, those that are there."""
    found: list[Fault] = []
    for table in tables.values():
        found += _unique(table)
        rule = _ROWS.get(table.name)
        if rule is not None:
            found += (Fault(record.place, reason) for record in table.records for reason in rule(record.row))
        if not table.records and table.name != CORRECTIONS:
            found.append(Fault(table.top, "it has no rows"))
    for across in _ACROSS:
        found += across(tables)
    return found


def _unique(table: Table) -> Iterator[Fault]:
    lines: dict[str, int] = {}
    for record in table.records:
        key = table.key(record)
        same = key if table.name == NVML_NAMES else key.lower()  # "SUPER" and "Super" are two boards
        if same in lines:
            yield Fault(record.place, f"{key!r:.100} is there twice, also on line {lines[same]}")
        lines.setdefault(same, record.place.line)


def _number(row: Row, column: str, low: float, high: float, may_lack: bool = False) -> Iterator[str]:
    text = row[column]
    if may_lack and not text:
        return
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        yield f"{column} is {text!r:.40}, no number from {low:g} to {high:g}"


def _one_of(row: Row, column: str, words: tuple[str, ...]) -> Iterator[str]:
    if row[column] not in words:
        yield f"{column} is {row[column]!r:.40}, none of {', '.join(words)}"


def _stated(row: Row, *columns: str) -> Iterator[str]:
    yield from (f"{column} is empty" for column in columns if not row[column].strip())


def _intensity(row: Row) -> Iterator[str]:
    yield from _stated(row, "name", "gases", "source", "licence")
    if not re.fullmatch(r"[A-Z][A-Z0-9_-]+", row["zone"]):
        yield f"zone {row['zone']!r:.40} is no code in capitals"
    yield from _one_of(row, "zone_type", ZONE_TYPES)
    yield from _one_of(row, "basis", ("lifecycle", "direct"))
    yield from _one_of(row, "accounting", ("production", "consumption"))
    yield from _one_of(row, "preferred", ("0", "1"))
    yield from _year(row, "data_year")
    yield from _year(row, "source_year")
    used = row["preferred"] == "1"
    yield from _number(row, "intensity_gco2eq_per_kwh", 0.0, MAX_G_PER_KWH if used else 5000.0)
    if used and row["intensity_gco2eq_per_kwh"] in ("0", "0.0"):
        yield "a figure that is used is 0: set preferred to 0"
    if row["zone_type"] == "country" and (row["iso_alpha2"] != row["zone"] or len(row["iso_alpha3"]) != 3):
        yield "the zone of a country is its iso_alpha2, and it has an iso_alpha3"
    if row["zone_type"] == "bidding_zone" and not re.match(r"\d+(\.\d+)?% \(", row["note"]):
        yield "the note of a bidding zone begins with the share of generation that it covers: '99.5% (…)'"


def _year(row: Row, column: str) -> Iterator[str]:
    if not re.fullmatch(r"(19[89]|20\d)\d", row[column]):
        yield f"{column} is {row[column]!r:.40}, no year"


def _cloud(row: Row) -> Iterator[str]:
    yield from _stated(row, "location", "zone")
    if not re.fullmatch(r"[a-z][a-z0-9]*", row["provider"]) or not re.fullmatch(r"\S+", row["region"]):
        yield f"{row['provider']}:{row['region']} is no provider and region"
    yield from _number(row, "region_pue", 1.0, 3.0, may_lack=True)
    yield from _number(row, "provider_pue", 1.0, 3.0, may_lack=True)
    yield from _number(row, "provider_gco2_per_kwh_2024", 0.0, MAX_G_PER_KWH, may_lack=True)


def _gpu(row: Row) -> Iterator[str]:
    yield from _stated(row, "vendor", "model", "source")
    wrong = [*_number(row, "tdp_w", 10.0, 2000.0, may_lack=True)]
    yield from wrong
    most_w = 2000.0 if wrong or not row["tdp_w"] else float(row["tdp_w"])
    yield from _number(row, "idle_w", 1.0, most_w, may_lack=True)
    yield from _number(row, "memory_gb", 1.0, 1024.0, may_lack=True)
    try:
        re.compile(row["name_regex"])
    except re.error as error:
        yield f"name_regex {row['name_regex']!r:.60} is no regular expression: {error}"
    if not row["name_regex"]:
        yield "name_regex is empty: it would fit every name"


def _peak(row: Row) -> Iterator[str]:
    yield from _stated(row, "model", "source")
    yield from _one_of(row, "precision", PRECISIONS)
    yield from _number(row, "peak_tflops", 0.1, 100_000.0)


def _accelerator(row: Row) -> Iterator[str]:
    yield from _stated(row, "includes", "source", "source_url")
    yield from _year(row, "data_year")
    wrong = [*_number(row, "mean_w", 1.0, 2000.0)]
    yield from wrong
    if not wrong:
        yield from _number(row, "min_w", 1.0, float(row["mean_w"]), may_lack=True)
        yield from _number(row, "max_w", float(row["mean_w"]), 2000.0, may_lack=True)


def _embodied(row: Row) -> Iterator[str]:
    yield from _stated(row, "name", "includes", "source", "source_url")
    yield from _one_of(row, "component", EMBODIED_COMPONENTS)
    yield from _one_of(row, "per", ("device", "GB"))
    yield from _one_of(row, "end_of_life", END_OF_LIFE)
    yield from _year(row, "data_year")
    yield from _number(row, "kgco2eq", 0.001, 10_000.0)
    try:
        re.compile(row["name_regex"])
    except re.error as error:
        yield f"name_regex {row['name_regex']!r:.60} is no regular expression: {error}"
    if (row["component"] == "gpu") != bool(row["name_regex"]):
        yield "name_regex is there for GPUs, and for nothing else"


def _cpu(row: Row) -> Iterator[str]:
    yield from _stated(row, "name", "source")
    yield from _number(row, "tdp_w", 0.01, 1000.0, may_lack=True)
    yield from _number(row, "cores", 1, 512, may_lack=True)
    if not row["tdp_w"] and not row["cores"]:
        yield "neither tdp_w nor cores is known"
    if row["match_key"] != row["match_key"].lower() or row["match_key"] in _BARE_FAMILIES:
        yield f"match_key {row['match_key']!r:.60} is in capitals, or only a family's name"


def _overhead(row: Row) -> Iterator[str]:
    yield from _stated(row, "provider", "scope", "source")
    yield from _one_of(row, "preferred", ("0", "1"))
    yield from _number(row, "pue_ratio", 1.0, 5.0, may_lack=True)
    yield from _number(row, "wue_l_per_kwh", 0.0, 20.0, may_lack=True)
    if not row["pue_ratio"] and not row["wue_l_per_kwh"]:
        yield "it states neither a PUE nor a WUE"


def _place(row: Row) -> Iterator[str]:
    yield from _one_of(row, "kind", ("name", "part", "grid", "subregion"))
    names = row["names"].split("|")
    if not all(name.strip() for name in names) or len(set(names)) != len(names):
        yield "names has an empty one, or one twice"


def _correction(row: Row) -> Iterator[str]:
    yield from _stated(row, "key", "reason", "source")
    table = FORMATS.get(row["table"])
    if table is None:
        yield f"{row['table']!r:.60} is no table"
    elif row["column"] not in (*table.columns, WHOLE_ROW):
        yield f"{row['column']!r:.60} is no column of {row['table']}"
    if row["old"] == row["new"]:
        yield "old and new are the same"
    if table is not None and row["column"] == WHOLE_ROW and not row["old"]:
        cells = next(csv.reader([row["new"]]), [])
        if len(cells) != len(table.columns):
            yield f"new has {len(cells)} fields, a row of {row['table']} has {len(table.columns)}"
        elif table.key_of(dict(zip(table.columns, cells, strict=True))) != row["key"]:
            yield "new is not the row of this key"


_ROWS: dict[str, Callable[[Row], Iterator[str]]] = {
    INTENSITIES: _intensity,
    CLOUD_REGIONS: _cloud,
    GPUS: _gpu,
    GPU_PEAKS: _peak,
    ACCELERATORS: _accelerator,
    EMBODIED: _embodied,
    CPUS: _cpu,
    OVERHEADS: _overhead,
    PLACES: _place,
    CORRECTIONS: _correction,
}


def _at_most_one_preferred(tables: Tables) -> Iterator[Fault]:
    for name, column in ((INTENSITIES, "zone"), (OVERHEADS, "provider")):
        lines: dict[str, int] = {}
        for record in _records(tables, name):
            if record.row["preferred"] == "1":
                key = record.row[column]
                if key in lines:
                    yield Fault(record.place, f"{key} has two preferred rows, also on line {lines[key]}")
                lines.setdefault(key, record.place.line)
        if name == INTENSITIES and name in tables and "WORLD" not in lines:
            yield Fault(tables[name].top, "WORLD has no preferred row: it stands in for what is not known")


def _codes_differ(tables: Tables) -> Iterator[Fault]:
    records = _records(tables, INTENSITIES)
    zones = {record.row["zone"] for record in records}
    for record in records:
        if record.row["zone_type"] == "country" and record.row["iso_alpha3"] in zones:
            yield Fault(record.place, f"iso_alpha3 {record.row['iso_alpha3']} is another zone's code")


def _clouds_resolve(tables: Tables) -> Iterator[Fault]:
    records = _records(tables, INTENSITIES)
    used = {record.row["zone"]: record.row for record in records if record.row["preferred"] == "1"}
    for record in _records(tables, CLOUD_REGIONS) if used else ():
        row = record.row
        zone = used.get(row["zone"])
        if zone is None:
            yield Fault(record.place, f"{row['zone']} has no figure that may be used in carbon_intensity.csv")
        elif row["default_gco2eq_per_kwh"] != zone["intensity_gco2eq_per_kwh"]:
            told, says = row["default_gco2eq_per_kwh"], zone["intensity_gco2eq_per_kwh"]
            yield Fault(record.place, f"{row['zone']} has {says} gCO2e/kWh, the default says {told:.20}")


def _places_resolve(tables: Tables) -> Iterator[Fault]:
    """Each place is a zone of the table of its edition, and none of its other names is another zone's own."""
    both = [tables[name].path.parent for name in (INTENSITIES, PLACES) if name in tables]
    records = _records(tables, INTENSITIES) if len(both) == 2 and both[0] == both[1] else []
    own = {record.row["name"].casefold(): record.row["zone"] for record in records}
    zones = {record.row["zone"] for record in records}
    for record in _records(tables, PLACES) if records else ():
        row = record.row
        if row["zone"] not in zones:
            yield Fault(record.place, f"{row['zone']} is no zone of carbon_intensity.csv")
        for name in row["names"].split("|"):
            if name in zones or own.get(name.casefold(), row["zone"]) != row["zone"]:
                yield Fault(record.place, f"{name!r:.60} is another zone's name")


def _names_fit_one_model(tables: Tables) -> Iterator[Fault]:
    """Each known name of NVML fits the expression of its own model, if it has one, and no other."""
    gpus = []
    for record in _records(tables, GPUS):
        try:
            gpus.append((re.compile(record.row["name_regex"]), record))
        except re.error:  # noqa: PERF203 (one loop over 200 rows; it is a fault of its row already)
            continue
    models = {record.row["model"] for _, record in gpus}
    for known in _records(tables, NVML_NAMES) if gpus else ():
        name, model = known.row["name"], known.row["model"]
        fits = [record for expression, record in gpus if expression.search(name)]
        own = [record for record in fits if record.row["model"] == model]
        for record in fits:
            if record not in own:
                means = f"that of {model}" if model else "that of a board which the table does not have"
                yield Fault(record.place, f"{record.row['model']}: name_regex fits {name!r}, {means}")
        if model in models and not own:
            record = next(record for _, record in gpus if record.row["model"] == model)
            yield Fault(record.place, f"{model}: name_regex does not fit {name!r}, as NVML names it")


def _models_are_known(tables: Tables) -> Iterator[Fault]:
    models = {record.row["model"] for record in _records(tables, GPUS)}
    for record in (*_records(tables, GPU_PEAKS), *_records(tables, ACCELERATORS)) if models else ():
        if record.row["model"] not in models:
            yield Fault(record.place, f"{record.row['model']!r:.60} is no model of gpus.csv")


def _records(tables: Tables, name: str) -> list[Record]:
    return tables[name].records if name in tables else []


_ACROSS: tuple[Callable[[Tables], Iterator[Fault]], ...] = (
    _at_most_one_preferred,
    _codes_differ,
    _clouds_resolve,
    _places_resolve,
    _names_fit_one_model,
    _models_are_known,
)

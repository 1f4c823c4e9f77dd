"""The table of annual carbon intensity: its rows, and what each says. `regions.py` finds a place in it."""

from __future__ import annotations

from collections.abc import Iterator

from carbonmon.core.model import Intensity
from carbonmon.core.records import NamedTuple
from carbonmon.data import EDITION, INTENSITIES, Row, rows

WORLD = "WORLD"
OLD_YEAR = int(EDITION[:4]) - 4
"""Data of this year or before are over three years old in the tables' edition: that is said."""
FULL_COVERAGE_PERCENT = 90.0
"""Below, a bidding zone's figure is a lower bound: part of the generation is not covered."""


class Region(NamedTuple):
    """A place and the annual carbon intensity of its electricity.

    `cloud` is (provider, region) if the place was given as a cloud region; then `em_zone` is Electricity
    Maps' name of its grid, "" otherwise. The PUEs are those that the provider states for the region and
    for its whole fleet; they are only shown, not applied. `note` holds remarks on the figure, among them
    every replacement by another zone. `chosen_basis` is what the text said behind "@".
    """

    zone: str
    name: str
    intensity: Intensity
    cloud: tuple[str, str] | None = None
    region_pue: float | None = None
    provider_pue: float | None = None
    pue_note: str = ""
    note: str = ""
    em_zone: str = ""
    chosen_basis: str = ""


def preferred_rows() -> Iterator[Row]:
    """The rows of the intensity table that may be used: at most one a zone."""
    return rows(INTENSITIES, "preferred", ("1",))


def zone_rows() -> Iterator[Row]:
    """All rows of the intensity table, including those of another basis or without a usable figure."""
    return rows(INTENSITIES)


def table_intensity(row: Row) -> Intensity:
    """A row of the table as an intensity in gCO2e/kWh without a range: the user chose the place."""
    g_per_kwh = float(row["intensity_gco2eq_per_kwh"])
    return Intensity(
        g_per_kwh,
        g_per_kwh,
        g_per_kwh,
        zone=row["zone"],
        source=row["source"],
        kind="table",
        basis=row["basis"],
        accounting=row["accounting"],
        year=int(row["data_year"]),
        note=_note(row),
    )


def _note(row: Row) -> str:
    """Remarks on a row: old data, generation that it leaves out, and what its source says of a province."""
    notes: list[str] = []
    if row["zone_type"] in ("ca_province", "au_state") and row["note"] and row["preferred"] == "1":
        notes.append(row["note"])
    if int(row["data_year"]) <= OLD_YEAR:
        notes.append(f"data of {row['data_year']}: the grid may have changed since")
    if row["zone_type"] == "bidding_zone":
        covered = float(row["note"].partition("%")[0])
        bound = "a lower bound: " if covered < FULL_COVERAGE_PERCENT else ""
        notes.append(f"{bound}covers {row['note'].replace('% (', ' % of generation (')}")
    return "; ".join(notes)

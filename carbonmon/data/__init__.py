"""The tables: where they lie, and reading them row by row.

The user's own editions, made by `carbonmon data update`, go before those of the package, each file for
itself. Nothing of a table is kept after a look-up. What they hold and where it is from: `SOURCES.md`.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple

PACKAGE = Path(__file__).parent
EDITION = "2026-11"
"""Of the bundled tables."""
VARIABLE = "CARBONMON_DATA"

INTENSITIES, CLOUD_REGIONS, OVERHEADS = "carbon_intensity.csv", "cloud_regions.csv", "pue_water.csv"
GPUS, CPUS, NVML_NAMES, CORRECTIONS = "gpus.csv", "cpus.csv", "nvml_names.csv", "corrections.csv"
GPU_PEAKS, ACCELERATORS, EMBODIED = "gpu_peaks.csv", "accelerator_power.csv", "embodied.csv"
PLACES = "places.csv"

Row = dict[str, str]


class Format(NamedTuple):
    """A kind of table: its columns, those that name a row, where it is from, and under which licences."""

    columns: tuple[str, ...]
    key: tuple[str, ...]
    source: str
    licence: str
    repeated: tuple[str, ...] = ()
    """Columns that repeat another table's, filled in at each update."""

    def key_of(self, row: Row) -> str:
        """What names the row in messages and in corrections."""
        return " | ".join(row[column] for column in self.key)


_CARBON_COLUMNS = (
    *("zone", "zone_type", "iso_alpha2", "iso_alpha3", "name", "intensity_gco2eq_per_kwh", "basis"),
    *("accounting", "gases", "data_year", "preferred", "source", "source_year", "licence", "source_url"),
    "note",
)
_CLOUD_COLUMNS = (
    *("provider", "region", "location", "country_iso2", "zone", "em_zone", "default_gco2eq_per_kwh"),
    *("default_basis", "default_year", "default_source", "provider_gco2_per_kwh_2024", "provider_cfe_2024"),
    *("region_pue", "region_pue_year", "provider_pue", "provider_pue_note"),
)
_GPUS_COLUMNS = (
    *("vendor", "model", "name_regex", "architecture", "form_factor", "memory_gb", "tdp_w", "idle_w"),
    *("idle_source", "embodied_kgco2eq", "embodied_source", "source", "note"),
)
_CPUS_COLUMNS = ("match_key", "name", "tdp_w", "cores", "source", "conflict")
_PUE_COLUMNS = (
    *("provider", "scope", "data_year", "pue_ratio", "wue_l_per_kwh", "source", "source_url", "note"),
    "preferred",
)
_CORRECTIONS_COLUMNS = ("table", "key", "column", "old", "new", "reason", "source")

FORMATS = {
    INTENSITIES: Format(
        _CARBON_COLUMNS,
        ("zone", "source"),
        "Ember via Our World in Data, EPA eGRID, official statistics; per row",
        "CC-BY-4.0, public domain, MIT; per row",
    ),
    CLOUD_REGIONS: Format(
        _CLOUD_COLUMNS,
        ("provider", "region"),
        "own map of regions; providers' figures",
        "own; Apache-2.0",
        ("default_gco2eq_per_kwh", "default_basis", "default_year", "default_source"),
    ),
    GPUS: Format(
        _GPUS_COLUMNS, ("model",), "vendors' data sheets; Cloud Carbon Footprint", "own; Apache-2.0"
    ),
    CPUS: Format(
        _CPUS_COLUMNS, ("match_key",), "CodeCarbon, carbontracker; Intel ARK, AMD", "MIT; vendors' figures"
    ),
    OVERHEADS: Format(
        _PUE_COLUMNS,
        ("provider", "scope", "data_year"),
        "operators and surveys; per row",
        "single published figures",
    ),
    GPU_PEAKS: Format(
        ("model", "precision", "peak_tflops", "source"),
        ("model", "precision"),
        "vendors' data sheets; per row",
        "vendors' figures",
    ),
    ACCELERATORS: Format(
        ("model", "includes", "min_w", "mean_w", "max_w", "data_year", "source", "source_url"),
        ("model", "includes"),
        "vendors' measurements; per row",
        "single published figures",
    ),
    EMBODIED: Format(
        (
            *("component", "name", "name_regex", "kgco2eq", "per", "includes", "end_of_life", "data_year"),
            *("source", "source_url"),
        ),
        ("component", "name", "source"),
        "vendors and papers; per row",
        "single published figures",
    ),
    PLACES: Format(
        ("kind", "zone", "names"),
        ("kind", "zone"),
        "Unicode CLDR via Babel 2.19.0; own list of names and of grids",
        "Unicode License v3; own",
    ),
    NVML_NAMES: Format(("name", "model"), ("name",), "NVIDIA's lists of supported products", "own"),
    CORRECTIONS: Format(_CORRECTIONS_COLUMNS, ("table", "key", "column", "old"), "per row", "own"),
}
"""All tables by file name. The last is a tool of `carbonmon data`; no look-up reads it."""


def user_folder() -> Path | None:
    """The folder of the user's own tables, whether it is there or not; None for a user without a home.

    `$XDG_DATA_HOME/carbonmon`, else `~/.local/share/carbonmon` (XDG Base Directory Specification).
    """
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    if base.is_absolute():
        return base / "carbonmon"
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (Path.home raises where there is none)
    return home / ".local" / "share" / "carbonmon" if home.is_absolute() else None


def data_file(name: str) -> Path:
    """The file of a table: the user's own if there is one, else the package's.

    The variable CARBONMON_DATA names another folder than the user's; "" or `package` leave only the
    bundled tables. Raises ConfigError if it names no folder.
    """
    chosen = os.environ.get(VARIABLE)
    folder = user_folder()
    if chosen in ("", "package"):
        folder = None
    elif chosen is not None:
        folder = Path(chosen)
        # os.path says False of a folder that may not be entered, where Path raises
        if not os.path.isdir(folder):  # noqa: PTH112
            raise ConfigError(
                f"{VARIABLE}: there is no folder {chosen!r:.200}; name one that "
                "`carbonmon data update --into` made, or 'package' for the bundled tables"
            )
    if folder is not None and os.path.isfile(folder / name):  # noqa: PTH113
        return folder / name
    return PACKAGE / name


def rows(name: str, column: str = "", values: Collection[str] = ()) -> Iterator[Row]:
    """The rows of a table, one at a time: all, or those that have one of the values in a column.

    Raises ConfigError for a table that cannot be read.
    """
    path = data_file(name)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file)
            columns = FORMATS[name].columns
            if tuple(next(table, ())) != columns:
                raise ValueError("its columns are not those of this table")
            at = columns.index(column) if column else 0
            for cells in table:
                if len(cells) != len(columns) and cells:
                    raise ValueError(f"line {table.line_num} has not as many fields as the header")
                if cells and (not column or cells[at] in values):
                    yield dict(zip(columns, cells, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise damaged(path, error) from None


@contextmanager
def using(*names: str) -> Iterator[None]:
    """Turns what a value raises that is no figure, no expression, into a ConfigError about the tables."""
    try:
        yield
    except (ValueError, KeyError, IndexError, OSError, csv.Error, re.error) as error:
        files = [data_file(name) for name in names]
        own = [path for path in files if path.parent != PACKAGE]
        raise damaged((own or files)[0], error) from error


def damaged(path: Path, error: Exception) -> ConfigError:
    """The error to raise for a table that cannot be used."""
    return ConfigError(
        f"{path}: the table cannot be used: {error}; `carbonmon data check {path.parent}` says what is "
        f"wrong, {VARIABLE}=package leaves it out"
    )

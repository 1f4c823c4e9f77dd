"""Makes carbonmon/data/places.csv: names of countries as people write them, and of Electricity Maps' grids.

    pip install babel==2.19.0 && python -m tools.tables.place_names

Names of territories in the languages below, and of each in its own official languages, are those of Unicode's
CLDR as Babel 2.19.0 ships it (Unicode License v3; Babel: BSD-3-Clause). `own_names.csv` is our own list:
English names of ISO 3166, former and usual ones, parts of countries, Electricity Maps' codes, and the eGRID
subregions of US cloud regions. A grid that lies nearly in one state has the state's figure, one that is
nearly an eGRID subregion has that, any other one its country's.
"""

from __future__ import annotations

import csv
from pathlib import Path

from carbonmon.data import FORMATS, INTENSITIES, PACKAGE, PLACES
from carbonmon.grid.place_names import SUBREGION, plain

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "tr", "ru", "zh", "zh_Hant", "ja", "ko", "ar")
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})


def main() -> None:
    """Write the table, sorted by kind and zone; a name that the intensity table has is left out."""
    places = {row["zone"]: row for row in _rows(PACKAGE / INTENSITIES)}
    known = {plain(row["name"]): zone for zone, row in places.items()}
    names: dict[tuple[str, str], dict[str, None]] = {}
    for zone, row in places.items():
        if plain(row["name"]) != row["name"].lower():
            names["name", zone] = {plain(row["name"]): None}
        if row["zone_type"] == "country":
            _take(names, known, "name", zone, _unicode_names(zone))
    for row in _rows(Path(__file__).with_name("own_names.csv")):
        if row["zone"] not in places:
            raise ValueError(f"own_names.csv: {row['zone']} is no zone of the intensity table")
        found = row["names"].split("|")
        if row["kind"] == SUBREGION:
            names[SUBREGION, row["zone"]] = dict.fromkeys(found)
        else:
            _take(names, known, row["kind"], row["zone"], found)
    with (PACKAGE / PLACES).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FORMATS[PLACES].columns)
        writer.writerows((*key, "|".join(found)) for key, found in sorted(names.items()) if found)


def _take(
    names: dict[tuple[str, str], dict[str, None]],
    known: dict[str, str],
    kind: str,
    zone: str,
    found: list[str],
) -> None:
    taken = names.setdefault((kind, zone), {})
    for name in found:
        if plain(name) and plain(name) not in known:
            taken[plain(name)] = None


def _unicode_names(zone: str) -> list[str]:
    from babel import Locale, UnknownLocaleError
    from babel.core import get_global

    spoken = get_global("territory_languages").get(zone, {})
    own = [code for code, facts in spoken.items() if (facts["official_status"] or "").endswith("official")]
    found = []
    for language in (*LANGUAGES, *own):
        try:
            name = Locale.parse(language).territories.get(zone)
        except (UnknownLocaleError, ValueError):
            continue
        if name:
            found.append(name)
            if language == "de":
                found.append(name.translate(_GERMAN))
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()

"""Names as people write them, in ten languages and more: the right place or an error with the nearest."""

from __future__ import annotations

from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.data import rows
from carbonmon.grid.nearest_places import nearest
from carbonmon.grid.place_names import plain
from carbonmon.grid.regions import resolve
from tests.support.rows import for_each_row

NAMES = Path(__file__).parents[1] / "fixtures/place_names.txt"
"""Lines `NAME=ZONE`, without a zone where the text must be refused."""


def written() -> list[tuple[str, str]]:
    lines = NAMES.read_text(encoding="utf-8").splitlines()
    pairs = [line.rpartition("=") for line in lines if not line.startswith("#")]
    return [(name, zone) for name, _, zone in pairs]


def test_there_are_300_names() -> None:
    assert len(written()) >= 300


def test_a_name_as_people_write_it_is_the_right_place_or_refused_with_the_nearest() -> None:
    wrong = []
    for name, zone in written():
        try:
            found = resolve(name).zone
        except ConfigError as error:
            found = ""
            assert "nearest" in str(error) or "ambiguous" in str(error), name
        if found != zone:
            wrong.append(f"{name}: {found or 'refused'}, not {zone or 'refused'}")
    assert not wrong


def test_the_table_has_its_names_as_they_are_compared() -> None:
    for row in rows("places.csv"):
        if row["kind"] != "subregion":
            assert [plain(name) for name in row["names"].split("|")] == row["names"].split("|")


@for_each_row(
    ("text", "near"),
    [
        ("Deutshland", "DE (Germany)"),
        ("Österreih", "AT (Austria)"),
        ("Nederlnd", "NL (Netherlands)"),
        ("Chez Republic", "CZ (Czechia)"),
    ],
)
def test_the_nearest_place_is_found_by_its_other_names_too(text: str, near: str) -> None:
    assert near in nearest(text)


@for_each_row(
    ("text", "same"),
    [
        ("The St. Lucia", "saint lucia"),
        ("Côte-d’Ivoire", "cote divoire"),
        ("TÜRKİYE", "turkiye"),
        ("Ærø & Łódź", "aero and lodz"),
    ],
)
def test_names_are_compared_without_what_people_write_differently(text: str, same: str) -> None:
    assert plain(text) == same

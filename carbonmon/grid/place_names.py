"""Other names of a place than the intensity table's: in other languages, former and usual ones, of grids.

The table is read line by line at a look-up that finds nothing else. Each look-up raises ConfigError for a
table that cannot be used.
"""

from __future__ import annotations

import unicodedata

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.data import PLACES, rows, using

_LETTERS = str.maketrans(
    {
        "ı": "i",
        "ł": "l",
        "ø": "o",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "&": " and ",
    }
)
"""Letters that Unicode does not decompose, as they are written without them."""
_UNWRITTEN = pattern(r"['’ʻ`´.]")
_WORD_BREAK = pattern(r"[\W_]+")
_ARTICLE = pattern(r"^the (?=.)")
_SAINT = pattern(r"\bst\b")


NAME, PART, GRID, SUBREGION = "name", "part", "grid", "subregion"
"""Kinds of rows: names of a zone, of a part of it, of a grid in it, and the cloud regions of a subregion."""


class OtherName(NamedTuple):
    """What a name means: a zone, a part of it, or a grid in it."""

    kind: str
    zone: str


def plain(text: str) -> str:
    """A name without what people write differently: case, accents, punctuation, `the`, `St.`, `&`.

    The table has its names in this form.
    """
    text = unicodedata.normalize("NFKD", text.casefold().translate(_LETTERS))
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = _WORD_BREAK.sub(" ", _UNWRITTEN.sub("", text)).strip()
    return unicodedata.normalize("NFC", _ARTICLE.sub("", _SAINT.sub("saint", text)))


def meanings(text: str) -> list[OtherName]:
    """What a text means as another name; more than one if it is ambiguous."""
    wanted = plain(text)
    with using(PLACES):
        return [
            OtherName(row["kind"], row["zone"])
            for row in rows(PLACES, "kind", (NAME, PART, GRID))
            if wanted in row["names"].split("|")
        ]


def other_names(start: str) -> dict[str, list[str]]:
    """The other names of each zone that begin so, without those of its parts and grids."""
    with using(PLACES):
        return {
            row["zone"]: [name for name in row["names"].split("|") if name.startswith(start)]
            for row in rows(PLACES, "kind", (NAME,))
        }

"""The places of the tables that are most like a text which names none, for an error message."""

from __future__ import annotations

from carbonmon.data import INTENSITIES, rows
from carbonmon.grid.cloud_regions import cloud_code, cloud_rows
from carbonmon.grid.place_names import other_names, plain

LONGEST = 100
"""Characters of a user's text that are compared and shown; no place has a longer name."""


def nearest(text: str, n: int = 5) -> tuple[str, ...]:
    """The n regions most similar to the text, best first, as `FR (France)`; cloud regions included."""
    import difflib
    import heapq

    wanted = fold_case(text[:LONGEST])
    matcher = difflib.SequenceMatcher(b=wanted)

    def similarity(code: str, *names: str) -> float:
        best = 0.0
        for word in map(fold_case, (code, *names)):
            matcher.set_seq1(word)
            contained = len(wanted) > 2 and wanted in word
            begun = wanted.startswith(f"{word}-")  # FR for FR-IDF
            more = 0.5 * (contained or begun)
            if matcher.real_quick_ratio() + more > best and matcher.quick_ratio() + more > best:
                best = max(best, matcher.ratio() + more)
        return best

    others = other_names(plain(text)[:1])
    places = [
        (row["zone"], row["name"], *others.get(row["zone"], ()))
        for row in rows(INTENSITIES, "preferred", ("1",))
    ]
    places += [(cloud_code(row), row["location"]) for row in cloud_rows()]
    hits = heapq.nlargest(n, places, key=lambda place: similarity(*place))
    return tuple(f"{code} ({name})" for code, name, *_ in hits)


def fold_case(text: str) -> str:
    """Lower case without accents, so that `Québec` is Quebec."""
    if not text.isascii():
        import unicodedata

        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.lower()

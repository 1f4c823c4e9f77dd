"""Sets their figures beside ours, and finds a verdict for each that differs by more than a quarter."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from tools.data_check.ours import Own
from tools.data_check.theirs import Figure

VERDICTS = Path(__file__).with_name("verdicts.csv")
LARGEST_RATIO = 0.25
"""Above it a difference needs a verdict, as part of our figure."""
WORDS = ("ours", "theirs", "both", "open")
"""Ours stands; theirs is right, or newer; both are right and count different things; not settled."""


class Verdict(NamedTuple):
    """`keys` is empty where it holds for all keys of the kind and source; `sources` likewise."""

    kind: str
    sources: tuple[str, ...]
    keys: tuple[str, ...]
    word: str
    reason: str

    def fits(self, figure: Figure) -> bool:
        """Whether it is about this figure."""
        return (
            self.kind == figure.kind
            and (not self.sources or figure.source in self.sources)
            and (not self.keys or figure.key in self.keys)
        )


class Difference(NamedTuple):
    """A figure of theirs that is not ours; `verdict` is None where nobody has judged it yet."""

    theirs: Figure
    ours: Own
    verdict: Verdict | None


class Count(NamedTuple):
    """How a source's figures of a kind compare: known here, different, without a verdict."""

    kind: str
    source: str
    figures: int
    known: int
    differ: int
    unjudged: int


class Comparison(NamedTuple):
    """All counts and differences; `denied` are rows that two sources deny without a verdict of their own."""

    counts: tuple[Count, ...]
    differences: tuple[Difference, ...]
    denied: tuple[str, ...]
    unused: tuple[Verdict, ...]


def read_verdicts(path: Path = VERDICTS) -> list[Verdict]:
    """The verdicts in order: the first that fits is the one. Raises ValueError for a word that is none."""
    with path.open(encoding="utf-8", newline="") as table:
        found = [
            Verdict(
                row["kind"],
                tuple(filter(None, row["sources"].split("|"))),
                tuple(filter(None, row["keys"].split("|"))),
                row["verdict"],
                row["reason"],
            )
            for row in csv.DictReader(table)
        ]
    for verdict in found:
        if verdict.word not in WORDS or not verdict.reason:
            raise ValueError(f"{path}: {verdict} has no reason, or none of {', '.join(WORDS)}")
    return found


def compare(
    figures: Iterable[Figure], own: Callable[[str, str], Own | None], verdicts: Iterable[Verdict]
) -> Comparison:
    """Every figure of theirs beside ours."""
    judged = list(verdicts)
    used: set[int] = set()
    counts: dict[tuple[str, str], list[int]] = {}
    differences: list[Difference] = []
    for figure in figures:
        count = counts.setdefault((figure.kind, figure.source), [0, 0, 0, 0])
        count[0] += 1
        ours = own(figure.kind, figure.key)
        if ours is None:
            continue
        count[1] += 1
        if not _differ(ours.value, figure.value):
            continue
        at = next((i for i, verdict in enumerate(judged) if verdict.fits(figure)), None)
        if at is not None:
            used.add(at)
        count[2] += 1
        count[3] += at is None
        differences.append(Difference(figure, ours, None if at is None else judged[at]))
    return Comparison(
        tuple(Count(kind, source, *numbers) for (kind, source), numbers in counts.items()),
        tuple(differences),
        _denied(differences),
        tuple(verdict for i, verdict in enumerate(judged) if i not in used),
    )


def _differ(ours: float | str, theirs: float | str) -> bool:
    if isinstance(ours, str) or isinstance(theirs, str):
        return ours != theirs
    return abs(theirs - ours) > LARGEST_RATIO * abs(ours)


def _denied(differences: Iterable[Difference]) -> tuple[str, ...]:
    """Rows that two sources or more deny, and that no verdict names."""
    sources: dict[tuple[str, str], set[str]] = {}
    named: set[tuple[str, str]] = set()
    for each in differences:
        row = each.theirs.kind, _row(each)
        sources.setdefault(row, set()).add(each.theirs.source)
        if each.verdict is not None and each.verdict.keys:
            named.add(row)
    return tuple(
        f"{kind}: {key}" for (kind, key), by in sources.items() if len(by) > 1 and (kind, key) not in named
    )


def _row(difference: Difference) -> str:
    """The row of ours: a country has several codes, a CPU several spellings."""
    return difference.ours.row or difference.theirs.key

"""The page of the comparison, docs/develop/data-check.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tools.data_check.comparison import Comparison, Difference, Verdict

TITLES = {
    "country": "Countries, gCO2e/kWh",
    "US state, direct": "US states, direct, gCO2e/kWh",
    "province of China": "Provinces of China, gCO2/kWh",
    "bidding zone": "Nordic bidding zones, gCO2e/kWh",
    "grid of a part": "Parts of countries as Electricity Maps has them, gCO2e/kWh",
    "cloud place": "Places of cloud regions, ISO 3166",
    "provider's figure": "Google's own figures of its regions, gCO2/kWh",
    "CPU": "TDP of CPUs, W",
    "peak": "Peaks of accelerators, TFLOP/s",
    "making of a GPU": "Making a GPU, kgCO2e",
}
MEANINGS = {
    "ours": "ours stands",
    "theirs": "theirs is newer, or right",
    "both": "both are right, and count different things",
    "open": "not settled",
}

TEMPLATE = Path(__file__).with_name("page.md")


def page(found: Comparison, packages: Mapping[str, tuple[str, str]]) -> str:
    """The whole page in Markdown; `packages` are release and licence by name."""
    listed = (f"| {name} | {release} | {licence} |" for name, (release, licence) in packages.items())
    counts = (
        f"| {each.kind} | {each.source} "
        f"| {each.figures:,} | {each.known:,} | {each.differ:,} | {each.unjudged:,} |"
        for each in found.counts
    )
    lines: list[str] = []
    for kind, title in TITLES.items():
        of_kind = [each for each in found.differences if each.theirs.kind == kind]
        if of_kind:
            lines += ["", f"## {title}", "", *_verdicts(of_kind)]
    return TEMPLATE.read_text(encoding="utf-8").format(
        packages="\n".join(listed),
        counts="\n".join(counts),
        denied=len(found.denied),
        differences="\n".join(lines),
    )


def _verdicts(differences: Iterable[Difference]) -> Iterator[str]:
    """Each verdict with what it is about: name, ours, theirs."""
    groups: dict[Verdict | None, list[Difference]] = {}
    for each in differences:
        groups.setdefault(each.verdict, []).append(each)
    yield "| verdict | reason | row: ours, and theirs beside it |"
    yield "|---|---|---|"
    for verdict, members in groups.items():
        word = "**none**" if verdict is None else MEANINGS[verdict.word]
        reason = "" if verdict is None else verdict.reason
        yield f"| {word} | {reason} | {'; '.join(map(_text, members))} |"


def _text(each: Difference) -> str:
    """Our figure, and how far theirs lies from it: theirs can be looked up where it is from."""
    theirs, ours = each.theirs.value, each.ours.value
    of = f"{each.theirs.source}{f' {each.theirs.year}' if each.theirs.year else ''}"
    if isinstance(theirs, str) or isinstance(ours, str):
        return f"{each.theirs.key}: {ours}, {of} {theirs}"
    return f"{each.theirs.key} {ours:.4g}, {of} {theirs / ours - 1:+.0%}"

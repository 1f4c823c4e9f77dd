"""A run as Prometheus knows it: the summaries of its parts, and how well it was scraped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from carbonmon.analysis.prometheus.lineage import Lineage
from carbonmon.analysis.prometheus.part import State
from carbonmon.analysis.prometheus.records import Count
from carbonmon.core import metrics as f
from carbonmon.core.times import rfc3339
from carbonmon.runs.report.details import Section
from carbonmon.runs.report.merging.sums import listed
from carbonmon.runs.summary.figures import duration_text

MOST_ROWS = 12


class Part(NamedTuple):
    """One count with its state, its summary and the gaps in its scrapes, as Unix times in s."""

    known: Count
    state: State
    summary: Mapping[str, Any]
    gaps: Sequence[tuple[float, float]]

    @property
    def host(self) -> str:
        return self.known.host

    @property
    def lineage(self) -> Lineage:
        return self.known.lineage

    @property
    def unscraped_s(self) -> float:
        return sum((end_s - begin_s for begin_s, end_s in self.gaps), 0.0)

    @property
    def is_only_zeros(self) -> bool:
        """A scraper is shown each counter at 0 once: so it is with what it saw only once."""
        return not any(sample.value for sample in self.known.totals.of(f.RUN_ENERGY))


class Found(NamedTuple):
    """The parts of a run, in the order of their starts; `server` is the address without a login."""

    server: str
    parts: Sequence[Part]
    warnings: Sequence[str]

    def source(self) -> dict[str, Any]:
        """What `monitor.sources` of the summary says of where its figures come from."""
        text = f"{self.server}: {self._said()}."
        return {"sensor": "prometheus", "state": "used", "reason": " ".join([text, *self.notes()])}

    def section(self) -> Section:
        """The same for people: who was scraped, what is missing, and what that means."""
        odd = [part for part in self.parts if _is_odd(part)]
        rows = [
            (
                part.host,
                _time(part.lineage.first_s),
                _time(part.lineage.last_s),
                f"{part.lineage.scrapes}",
                duration_text(part.unscraped_s) if part.gaps else "–",
                _end(part),
            )
            for part in odd[:MOST_ROWS]
        ]
        more = (
            [f"And {len(odd) - MOST_ROWS} more of which something is missing."]
            if len(odd) > MOST_ROWS
            else []
        )
        return Section(
            f"From Prometheus at {self.server}: {self._said()}",
            ("host", "first scrape", "last scrape", "scrapes", "not scraped", "end"),
            rows,
            [*more, *self.notes()],
            numbers=(3, 4),
        )

    def document(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "server": self.server,
            "counts": [
                {
                    "host": part.host,
                    "instance": part.lineage.instance,
                    "started_at": part.summary["run"]["started_at"],
                    "first_scrape_at": rfc3339(part.lineage.first_s),
                    "last_scrape_at": rfc3339(part.lineage.last_s),
                    "scrapes": part.lineage.scrapes,
                    "scrape_interval_s": part.lineage.interval_s,
                    "unscraped_s": part.unscraped_s,
                    "state": part.state,
                }
                for part in self.parts
            ],
            "notes": list(self.notes()),
        }

    def notes(self) -> list[str]:
        """What a reader of the figures ought to know, in sentences."""
        notes = []
        incomplete = [part for part in self.parts if part.gaps]
        if incomplete:
            seconds = duration_text(sum(part.unscraped_s for part in incomplete))
            gaps = sum(len(part.gaps) for part in incomplete)
            where = listed([part.host for part in incomplete])
            notes.append(
                f"Not scraped for {seconds} in all, in {_some(gaps, 'gap')} of {where}: the counters went "
                "on, so none of that energy is missing."
            )
        for state, text in _OPEN.items():
            hosts = [part.host for part in self.parts if part.state == state]
            if hosts:
                notes.append(f"{text}: {listed(hosts)}.")
        anew = _begun_anew(self.parts)
        if anew:
            notes.append(f"Begun anew from zero, and added: {listed(anew)}.")
        zeros = [part.host for part in self.parts if part.is_only_zeros]
        if zeros:
            notes.append(
                "Seen only while the counters were shown at 0, so that their energy is missing: "
                f"{listed(zeros)}."
            )
        twice = _counted_twice(self.parts)
        if twice:
            notes.append(
                f"Charged by two monitors at the same time, so that it may count twice: {listed(twice)}."
            )
        if any(part.known.totals.one(f.SAMPLE_INTERVAL) is None for part in self.parts):
            notes.append("How often the node was sampled is not told: the interval is that of the scrapes.")
        return [*notes, *(f"{warning[:1].upper()}{warning[1:]}." for warning in self.warnings)]

    def _said(self) -> str:
        scrapes = sum(part.lineage.scrapes for part in self.parts)
        return f"{_some(scrapes, 'scrape')} of {_some(len({part.host for part in self.parts}), 'host')}"


_OPEN = {
    "running": "Still going, counted up to the last scrape",
    "recovered": "Their end was not scraped, and what they drew after the last scrape is not in the sum",
}


def _is_odd(part: Part) -> bool:
    return bool(part.gaps) or part.state == "recovered" or part.is_only_zeros


def _end(part: Part) -> str:
    if part.known.ended_at_s is not None:
        return _time(part.known.ended_at_s)
    return "goes on" if part.state == "running" else "not seen"


def _begun_anew(parts: Sequence[Part]) -> list[str]:
    """The hosts that have more than one count, with how many."""
    counts: dict[str, int] = {}
    for part in parts:
        counts[part.host] = counts.get(part.host, 0) + 1
    return [f"{host} ({_some(count - 1, 'time')})" for host, count in counts.items() if count > 1]


def _counted_twice(parts: Sequence[Part]) -> list[str]:
    """The GPUs that two counts have at the same time; ids of GPUs are unique in the world."""
    gpus = [
        {
            sample.labels.get("device", "")
            for sample in part.known.totals.of(f.RUN_ENERGY)
            if sample.labels.get("component") == "gpu" and sample.value
        }
        for part in parts
    ]
    found: dict[str, None] = {}
    for (one, its), (other, others) in combinations(zip(parts, gpus, strict=True), 2):
        begin_s = max(one.lineage.first_s, other.lineage.first_s)
        if begin_s < min(one.known.until_s, other.known.until_s):
            found.update(dict.fromkeys(sorted(its & others)))
    return list(found)


def _some(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _time(unix_s: float) -> str:
    text = rfc3339(unix_s) or "unknown"
    return f"{text[:19].replace('T', ' ')}Z" if text != "unknown" else text

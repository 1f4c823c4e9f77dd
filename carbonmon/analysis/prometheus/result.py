"""A run in Prometheus: the summaries of its parts, and how completely it was scraped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from carbonmon.analysis.prometheus.counter_history import CounterHistory
from carbonmon.analysis.prometheus.ending import Missing
from carbonmon.analysis.prometheus.part import State
from carbonmon.analysis.prometheus.records import RunCounters
from carbonmon.core import metrics as f
from carbonmon.core.records import NamedTuple
from carbonmon.core.times import rfc3339
from carbonmon.runs.report.details import Section
from carbonmon.runs.report.merging.sums import listed
from carbonmon.runs.summary.figures import duration_text, energy_text, figure, percent_text

MAX_ROWS = 12


class Part(NamedTuple):
    """The counters of one monitor with state, summary and the gaps in the scrapes, as Unix times in s.

    `lack` is what may be missing in its total.
    """

    known: RunCounters
    state: State
    summary: Mapping[str, Any]
    gaps: Sequence[tuple[float, float]]
    lack: Missing

    @property
    def host(self) -> str:
        return self.known.host

    @property
    def history(self) -> CounterHistory:
        return self.known.history

    @property
    def unscraped_s(self) -> float:
        return sum((end_s - begin_s for begin_s, end_s in self.gaps), 0.0)

    @property
    def is_only_zeros(self) -> bool:
        """Whether all counters are 0, as where a monitor up to version 0.2.0 was scraped only once."""
        return not any(sample.value for sample in self.known.totals.of(f.RUN_ENERGY))


class PrometheusRun(NamedTuple):
    """The parts of a run, in the order of their starts; `server` is the address without a login."""

    server: str
    parts: Sequence[Part]
    warnings: Sequence[str]

    def source(self) -> dict[str, Any]:
        """The entry of `monitor.sources` of the summary."""
        text = f"{self.server}: {self._scrapes_text()}."
        return {"sensor": "prometheus", "state": "used", "reason": " ".join([text, *self.notes()])}

    def section(self) -> Section:
        """The same as a table for people: the hosts with missing scrapes, and notes."""
        odd = [part for part in self.parts if _is_incomplete(part)]
        rows = [
            (
                part.host,
                _time(part.history.first_s),
                _time(part.history.last_s),
                f"{part.history.scrapes}",
                duration_text(part.unscraped_s) if part.gaps else "–",
                _end(part),
            )
            for part in odd[:MAX_ROWS]
        ]
        more = (
            [f"And {len(odd) - MAX_ROWS} more of which something is missing."] if len(odd) > MAX_ROWS else []
        )
        return Section(
            f"From Prometheus at {self.server}: {self._scrapes_text()}",
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
                    "instance": part.history.instance,
                    "started_at": part.summary["run"]["started_at"],
                    "first_scrape_at": rfc3339(part.history.first_s),
                    "last_scrape_at": rfc3339(part.history.last_s),
                    "scrapes": part.history.scrapes,
                    "scrape_interval_s": part.history.interval_s,
                    "unscraped_s": part.unscraped_s,
                    "missing_up_to_j": part.lack.up_to_j,
                    "state": part.state,
                }
                for part in self.parts
            ],
            "notes": list(self.notes()),
        }

    def notes(self) -> list[str]:
        """Remarks on the figures, in sentences."""
        notes = []
        incomplete = [part for part in self.parts if part.gaps]
        if incomplete:
            seconds = duration_text(sum(part.unscraped_s for part in incomplete))
            gaps = sum(len(part.gaps) for part in incomplete)
            where = listed([part.host for part in incomplete])
            notes.append(
                f"Not scraped for {seconds} in all, in {_some(gaps, 'gap')} of {where}: the counters "
                "continued, so none of that energy is missing."
            )
        for state, text in _OPEN.items():
            hosts = [part.host for part in self.parts if part.state == state]
            if hosts:
                notes.append(f"{text}: {listed(hosts)}.")
        notes += self._lacks()
        restarted = _restarted(self.parts)
        if restarted:
            notes.append(f"Restarted from zero, and added: {listed(restarted)}.")
        notes += self._zeros()
        twice = _counted_twice(self.parts)
        if twice:
            notes.append(
                f"Charged by two monitors at the same time, so that it may count twice: {listed(twice)}."
            )
        if any(part.known.totals.one(f.SAMPLE_INTERVAL) is None for part in self.parts):
            notes.append(
                "The node's sampling interval is unknown: the interval given is that of the scrapes."
            )
        return [*notes, *(f"{warning[:1].upper()}{warning[1:]}." for warning in self.warnings)]

    def _lacks(self) -> list[str]:
        """By how much the total may be low where the end was not scraped."""
        parts = [part for part in self.parts if part.state == "recovered"]
        known = [part.lack.after_j for part in parts if part.lack.after_j is not None]
        unknown = [
            part.host if part.lack.power_w is None else f"{part.host} ({figure(part.lack.power_w)} W)"
            for part in parts
            if part.lack.after_j is None
        ]
        notes = []
        if known:
            total_j = sum(part.summary["energy"]["total_j"] or 0.0 for part in self.parts)
            share = f" ({percent_text(sum(known) / total_j)} of the total)" if total_j else ""
            notes.append(
                f"At the power of the last scrape, up to {energy_text(sum(known))}{share} may be missing, "
                "if they ended before the next scrape was due."
            )
        if unknown:
            notes.append(
                "Nobody scraped after that, so that it is unknown how much is missing; the power at the last "
                f"scrape: {listed(unknown)}."
            )
        return notes

    def _zeros(self) -> list[str]:
        """What monitors up to version 0.2.0 showed only at 0."""
        notes = []
        whole = [part.host for part in self.parts if part.is_only_zeros]
        if whole:
            notes.append(
                "Scraped only while new counters were shown at 0, so that their energy is missing: "
                f"{listed(whole)}."
            )
        some = [part for part in self.parts if part.lack.phases and not part.is_only_zeros]
        if some:
            names = listed([f"{phase} of {part.host}" for part in some for phase in part.lack.phases])
            known = sum(part.lack.before_j or 0.0 for part in some)
            notes.append(
                "Scraped only once, at 0, as carbonmon up to version 0.2.0 shows a new counter first: "
                f"{names}; up to {energy_text(known)} of before that may be missing."
            )
        return notes

    def _scrapes_text(self) -> str:
        scrapes = sum(part.history.scrapes for part in self.parts)
        return f"{_some(scrapes, 'scrape')} of {_some(len({part.host for part in self.parts}), 'host')}"


_OPEN = {
    "running": "Still active, counted up to the last scrape",
    "recovered": "Their end was not scraped, and their energy after the last scrape is not in the sum",
}


def _is_incomplete(part: Part) -> bool:
    return bool(part.gaps) or part.state == "recovered" or part.is_only_zeros


def _end(part: Part) -> str:
    if part.known.ended_at_s is not None:
        return _time(part.known.ended_at_s)
    return "active" if part.state == "running" else "not seen"


def _restarted(parts: Sequence[Part]) -> list[str]:
    """The hosts that have more than one counter of the run, with how many."""
    counts: dict[str, int] = {}
    for part in parts:
        counts[part.host] = counts.get(part.host, 0) + 1
    return [f"{host} ({_some(count - 1, 'time')})" for host, count in counts.items() if count > 1]


def _counted_twice(parts: Sequence[Part]) -> list[str]:
    """The GPUs that two parts have at the same time; ids of GPUs are globally unique."""
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
        begin_s = max(one.history.first_s, other.history.first_s)
        if begin_s < min(one.known.until_s, other.known.until_s):
            found.update(dict.fromkeys(sorted(its & others)))
    return list(found)


def _some(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _time(unix_s: float) -> str:
    text = rfc3339(unix_s) or "unknown"
    return f"{text[:19].replace('T', ' ')}Z" if text != "unknown" else text

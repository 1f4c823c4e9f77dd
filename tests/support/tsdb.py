"""So much of a Prometheus as reports ask for: series in memory behind HTTP, and a node that it scrapes."""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Literal
from zlib import crc32

from carbonmon_exporters.collector import SnapshotCollector

from carbonmon.core.model import Intensity, Snapshot
from carbonmon.core.node_meter import NodeCharge, NodeEnergy
from tests.support.gridserver import Reply, Request
from tests.support.records import (
    START_S,
    device_state,
    dram,
    gpu,
    intensity,
    node_total,
    package,
    run_info,
    run_state,
    run_total,
    snapshot,
)

RUN = "slurm-4242"
STEP_S = 15.0
LOOK_BACK_S = 300.0

_SELECTOR = r"(?P<name>[a-z_]*)\{(?P<matchers>.*)\}"
_MATCHER = re.compile(r'("(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z0-9_]*)(=~|=)("(?:[^"\\]|\\.)*")(?:,|$)')
_QUERY = re.compile(rf"(?P<calls>(?:[a-z_]+\()*){_SELECTOR}(?:\[(?P<window>[0-9]+)ms\])?\)*", re.DOTALL)

Key = tuple[tuple[str, str], ...]
Samples = list[tuple[float, float | None]]


def _key(labels: Mapping[str, str]) -> Key:
    return tuple(sorted((name, text) for name, text in labels.items() if text))


class Tsdb:
    """So much of Prometheus as reports ask for: series in memory, behind HTTP. None ends a series.

    `latency_s`: as VictoriaMetrics, it answers for so long ago unless it is told not to. `replica`: as
    Thanos, it merges the series that differ in this label, each from whichever replica it likes.
    """

    def __init__(self) -> None:
        self.series: dict[Key, Samples] = {}
        self._keys: dict[Key, dict[tuple[str, Key], Key]] = {}
        self.largest = 0
        self.most_samples = 10**9
        self.warnings: list[str] = []
        self.now_s = START_S
        self.has_scalars = True
        self.latency_s = 0.0
        self.replica = ""

    def scrape(self, target: Mapping[str, str], monitor: Monitor, at_s: float) -> None:
        """What a scraper keeps of a monitor: its own labels go before those of the metrics."""
        target = {name: text for name, text in target.items() if text}
        keys = self._keys.setdefault(tuple(target.items()), {})
        for name, labels, when_s, value in monitor.shown(at_s):
            scraped = (name, tuple(labels.items()))
            key = keys.get(scraped)
            if key is None:
                renamed = {
                    f"exported_{each}" if each in target else each: text for each, text in labels.items()
                }
                key = keys[scraped] = _key({"__name__": name, **target, **renamed})
            self._append(key, when_s, value)
        self.add({"__name__": "up", **target}, at_s, 1.0)
        self.now_s = max(self.now_s, at_s)

    def add(self, labels: Mapping[str, str], at_s: float, value: float | None) -> None:
        """A sample that is not newer than the last one of its series is dropped."""
        self._append(_key(labels), at_s, value)

    def _append(self, key: Key, at_s: float, value: float | None) -> None:
        samples = self.series.setdefault(key, [])
        at_s = round(at_s, 3)
        if not samples or at_s > samples[-1][0]:
            samples.append((at_s, value))

    def down(self, target: Mapping[str, str], at_s: float) -> None:
        """A scrape that fails ends all series of its target."""
        for key, samples in self.series.items():
            if target.items() <= dict(key).items() and samples[-1][1] is not None:
                samples.append((at_s, 0.0 if ("__name__", "up") in key else None))
        self.now_s = max(self.now_s, at_s)

    def answer(self, request: Request) -> Reply:
        words = request.query
        late_s = 0.0 if "nocache" in words else self.latency_s
        if request.path.endswith("/label/run_id/values"):
            ids = {dict(key).get("run_id") for key in self.series}
            return self._success(sorted(filter(None, ids)))
        if words["query"] == "time()":
            now = [self.now_s - late_s, str(self.now_s - late_s)]
            if self.has_scalars:
                return self._success({"resultType": "scalar", "result": now})
            return self._success({"resultType": "vector", "result": [{"metric": {}, "value": now}]})
        if request.path.endswith("/query_range"):
            start_s, end_s, step_s = (float(words[word]) for word in ("start", "end", "step"))
            times = [start_s + step_s * place for place in range(int((end_s - start_s) / step_s + 1e-9) + 1)]
        else:
            times = [min(float(words["time"]), self.now_s - late_s) if late_s else float(words["time"])]
        found: dict[Key, list[tuple[float, float]]] = {}
        for at_s in times:
            for labels, samples in self._evaluate(words["query"], at_s):
                found.setdefault(labels, []).extend(samples)
        count = sum(len(samples) for samples in found.values())
        if count > self.most_samples:
            return Reply({"status": "error", "error": "query processing would load too many samples"}, 422)
        self.largest = max(self.largest, count)
        result = [
            {"metric": dict(labels), "values": [[at_s, _go(value)] for at_s, value in samples]}
            for labels, samples in found.items()
        ]
        return self._success({"resultType": "matrix", "result": result})

    def _success(self, data: Any) -> Reply:
        return Reply({"status": "success", "data": data, "warnings": self.warnings})

    def _evaluate(self, query: str, at_s: float) -> Iterator[tuple[Any, list[tuple[float, float]]]]:
        match = _QUERY.fullmatch(query)
        assert match, query
        calls = match["calls"].split("(")[:-1]
        window_s = LOOK_BACK_S if match["window"] is None else float(match["window"]) / 1000
        total = 0.0
        matchers = _matchers(match["name"], match["matchers"])
        for key, samples in self._seen().items():
            labels = dict(key)
            if not all(pattern.fullmatch(labels.get(label, "")) for label, pattern in matchers):
                continue
            begin = bisect_left(samples, at_s - window_s, key=itemgetter(0))
            inside = samples[begin : bisect_right(samples, at_s, key=itemgetter(0))]
            known = [(time_s, value) for time_s, value in inside if value is not None]
            if match["window"] is None:
                known = [] if not inside or inside[-1][1] is None else [(at_s, known[-1][1])]
            elif "last_over_time" in calls:
                known = [(at_s, known[-1][1])] if known else []
            elif "count_over_time" in calls:
                known = [(at_s, float(len(known)))] if known else []
            if "sum" in calls:
                total += sum(value for _, value in known)
            elif known:
                dropped = tuple(item for item in key if not calls or item[0] != "__name__")
                yield dropped, known
        if "sum" in calls and total:
            yield (), [(at_s, total)]

    def _seen(self) -> dict[Key, Samples]:
        """The series as a query has them."""
        if not self.replica:
            return self.series
        merged: dict[Key, list[Samples]] = {}
        for key, samples in self.series.items():
            merged.setdefault(tuple(item for item in key if item[0] != self.replica), []).append(samples)
        return {key: each[crc32(repr(key).encode()) % len(each)] for key, each in merged.items()}


@cache
def _matchers(name: str, text: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """(label, what its value must be) of a selector."""
    found = [("__name__", re.compile(re.escape(name)))] if name else []
    position = 0
    while position < len(text):
        match = _MATCHER.match(text, position)
        assert match, text
        label = json.loads(match[1]) if match[1].startswith('"') else match[1]
        value = json.loads(match[3])
        found.append((label, re.compile(value if match[2] == "=~" else re.escape(value), re.DOTALL)))
        position = match.end()
    return tuple(found)


def _go(value: float) -> str:
    """As Go prints a number."""
    return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(repr(value), repr(value))


WATTS = 160.0
YOUNG_S = 60.0

Births = Literal["stamped", "zero"]


class Monitor:
    """A node's monitor, whose run draws 100 W on a GPU, 50 W on a package and 10 W of memory.

    `phases` are (name, seconds after its start) in order. A new counter comes as two samples with times of
    their own, by the node's clock, or, as until version 0.2.0, at 0 instead of its value at its first scrape.
    `machine_w` is the power of the whole machine by a node meter, of which the run is charged 40 %.
    """

    def __init__(
        self,
        number: int = 0,
        start_s: float = START_S,
        *,
        now: Intensity | None = None,
        phases: Sequence[tuple[str, float]] = (("main", 0.0),),
        births: Births = "stamped",
        clock_ahead_s: float = 0.2,
        machine_w: float | None = None,
    ) -> None:
        self.machine_w = machine_w
        self.start_s = start_s
        self.now = now or intensity()
        self.is_continued = False
        self.devices = (gpu()._replace(id=f"GPU-{number}"), package(), dram())
        self.info = run_info(labels=(("team", "vision"),))._replace(started_at_s=start_s)
        self.phases = dict(phases)
        self.births = births
        self.clock_ahead_s = clock_ahead_s
        self.seen: set[tuple[str, ...]] = set()
        self.snapshot = self.at(start_s)

    def shown(self, at_s: float) -> Iterator[tuple[str, dict[str, str], float, float]]:
        """Name, labels, time and value of each sample that a scrape at a time gets."""
        for family in SnapshotCollector(lambda: self.snapshot).collect():
            for sample in family.samples:
                key = (sample.name, *sample.labels.values())
                is_new, value = key not in self.seen and not self.is_continued, sample.value
                self.seen.add(key)
                born_s = self.start_s + self.phases.get(sample.labels.get("phase", ""), 0.0)
                if family.type != "counter":
                    yield sample.name, sample.labels, at_s, value
                elif self.births == "zero":
                    yield sample.name, sample.labels, at_s, 0.0 if is_new else value
                elif at_s - born_s < YOUNG_S and not self.is_continued:
                    for when_s, stamped in ((born_s, 0.0), (self.snapshot.at_s, value)):
                        yield sample.name, sample.labels, when_s + self.clock_ahead_s, stamped
                else:
                    yield sample.name, sample.labels, at_s, value

    def at(self, at_s: float, ended_at_s: float | None = None) -> Snapshot:
        seconds = min(at_s, ended_at_s or at_s) - self.start_s
        methods = ("counter", "counter", "tdp")
        powers = (100.0, 50.0, 10.0)
        states = tuple(
            device_state(device, **{f"{method}_j": seconds * watts}, resets=number)  # type: ignore[arg-type]
            for number, (device, watts, method) in enumerate(zip(self.devices, powers, methods, strict=True))
        )
        totals = tuple(
            run_total(device.id, device.component, method, lasted_s * watts, phase=phase)  # type: ignore[arg-type]
            for phase, lasted_s in self._lasted(seconds)
            for device, watts, method in zip(self.devices, powers, methods, strict=True)
        )
        run = run_state(
            self.info,
            totals,
            unobserved_s=((self.devices[1].id, 2.5),),
            power_w=tuple((device.id, watts) for device, watts in zip(self.devices, powers, strict=True)),
            node=tuple(node_total(state) for state in states),
            ended_at_s=ended_at_s,
            cpu_s=seconds,
            duration_s=seconds,
        )
        if self.machine_w is not None:
            seen_s = max(0.0, seconds - 10.0)  # the meter's first answer came after 10 s
            power_j, grams = seen_s * self.machine_w, seen_s * self.machine_w * 4e-5
            total = NodeEnergy("acpi", 0.0, power_j, seen_s * 160.0, seen_s, min(seconds, 10.0))
            charge = NodeCharge("acpi", 0.4 * power_j, grams, grams * 0.9, grams * 1.2)
            run = run._replace(node_meters=(total,), node_charges=(charge,))
        return snapshot((run,), states, now=self.now)._replace(at_s=at_s, continued=self.is_continued)

    def _lasted(self, seconds: float) -> Iterator[tuple[str, float]]:
        ends_s = [*list(self.phases.values())[1:], seconds]
        for (phase, begin_s), end_s in zip(self.phases.items(), ends_s, strict=True):
            if begin_s <= seconds:
                yield phase, min(end_s, seconds) - begin_s


def lapse(
    store: Tsdb,
    monitor: Monitor,
    seconds: tuple[float, float],
    instance: str = "node-7:9877",
    step_s: float = STEP_S,
    ended_at_s: float | None = None,
    **labels: str,
) -> None:
    """Scrape a monitor from so many seconds after START_S to so many."""
    target = {"job": "carbonmon", "instance": instance, **labels}
    at_s = START_S + seconds[0]
    while at_s <= START_S + seconds[1]:
        monitor.snapshot = monitor.at(at_s, ended_at_s if ended_at_s and ended_at_s <= at_s else None)
        store.scrape(target, monitor, at_s)
        at_s += step_s

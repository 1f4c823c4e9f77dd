"""Counters of what a run has done begin at 0 with the first report, also for a scraper."""

from __future__ import annotations

import re

from carbonmon_exporters.starts import Scrape, plain
from carbonmon_exporters.work import work_families

from carbonmon.core.gpu_time import GpuTime
from carbonmon.core.model import RunState, Snapshot
from carbonmon.core.work import Span, Work
from tests.support.records import run_state, snapshot, work
from tests.support.rows import for_each_row

COUNTERS = ("steps", "epochs", "samples", "tokens", "flops")


def shown(run: RunState) -> dict[str, float]:
    state = snapshot((run,))
    return {
        f"{sample.name} {sample.labels.get('state', '')}".strip(): sample.value
        for family in work_families(state, plain(state))
        for sample in family.samples
    }


def test_a_run_that_tells_nothing_has_no_counter():
    assert shown(run_state()) == {}


def test_counters_count_from_the_first_report():
    told = work()
    spans = tuple(span._replace(first=span.last / 4) for span in told.spans)
    values = shown(run_state()._replace(work=told._replace(spans=spans)))
    for what in COUNTERS:
        assert values[f"carbonmon_run_{what}_total"] == getattr(told, what) * 0.75


@for_each_row(
    ("time", "expected"),
    [
        (GpuTime(100.0, 20.0, 30.0, 5.0), {"busy": 50.0, "idle": 20.0, "unknown": 30.0}),
        (GpuTime(100.0, 0.0, 100.0, 0.0), {"busy": 0.0, "idle": 0.0, "unknown": 100.0}),
    ],
)
def test_gpu_seconds_have_their_state_and_unknown_idle_energy_is_absent(
    time: GpuTime, expected: dict[str, float]
):
    values = shown(run_state()._replace(gpu_time=time))
    for state, seconds in expected.items():
        assert values[f"carbonmon_run_gpu_seconds_total {state}"] == seconds
    assert ("carbonmon_run_gpu_idle_energy_joules_total" in values) is (time.unknown_s < time.held_s)


def test_a_scraper_sees_a_counter_that_is_new_to_it_begin_at_zero():
    def state(tokens: float | None, clock_s: float) -> Snapshot:
        told = None if tokens is None else Work(spans=(Span("tokens", 0.0, tokens, 0.0, 1.0, 0.0, 1.0),))
        return snapshot((run_state()._replace(work=told, start_s=100.0),))._replace(
            at_s=1e9 + clock_s, clock_s=clock_s
        )

    def samples(answer: Scrape, of: Snapshot) -> list[tuple[float, float | None]]:
        families = list(work_families(of, answer.starts(of)))
        return [
            (sample.value, None if sample.timestamp is None else float(sample.timestamp))
            for family in families
            for sample in family.samples
            if re.fullmatch("carbonmon_run_tokens_total", sample.name)
        ]

    first = Scrape(None, 60.0, 1e9 + 110.0)
    assert samples(first, state(None, 110.0)) == []
    second = Scrape(first.end(), 60.0, 1e9 + 125.0)
    assert samples(second, state(500.0, 124.0)) == [(0.0, 1e9 + 110.0), (500.0, 1e9 + 125.0)]
    third = Scrape(second.end(), 60.0, 1e9 + 140.0)
    assert samples(third, state(900.0, 139.0)) == [(900.0, None)]

"""What real servers make of runs that they scrape: every phase's joules, at any offset, early or late."""

from __future__ import annotations

import re
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from carbonmon_exporters.prometheus import PrometheusExporter

from carbonmon.analysis import prometheus as prometheus_report
from carbonmon.core.ports import ExporterSettings
from tests.support import command, prometheus, victoriametrics
from tests.support.prometheus import Prometheus
from tests.support.scripted import Runs, Script
from tests.support.victoriametrics import VictoriaMetrics

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        prometheus.binary() is None or victoriametrics.binary() is None,
        reason="no Prometheus or VictoriaMetrics, and no apt-get to fetch it",
    ),
]

TOTAL = "carbonmon_run_energy_joules_total"
END = "carbonmon_run_end_time_seconds"
INTERVAL_S = 2.0
"""Stands for 15 s: the first run lasts 20 s then, the second has phases of 3 s, the last takes 2 min."""

OFFSETS, EACH = 50, 17
"""So many scrape pools, each with another offset; one endpoint keeps 24 connections of an address."""

SCRIPTS = (
    Script("short", 1.0, (("main", 2.0), ("eval", 0.6))),
    Script("phases", 1.5, tuple((f"p{number}", 0.4) for number in range(20))),
    Script("long", 0.5, (("load", 3.0), ("train", 11.0), ("eval", 1.5), ("test", 0.4))),
)

Joules = dict[tuple[str, str, str], float]


def test_every_phase_has_all_of_its_joules_at_every_offset_and_in_servers_that_come_late(
    tmp_path: Path,
) -> None:
    with ExitStack() as stack:
        runs = Runs(SCRIPTS)
        places = []
        for _ in range(-(-OFFSETS // EACH)):
            exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", 0)))
            stack.callback(exporter.close)
            places.append(exporter.start(lambda: runs.latest).split("/")[2])
        pools = [places[number // EACH] for number in range(OFFSETS)]
        folders = [tmp_path / name for name in ("early", "late")]
        for folder in folders:
            folder.mkdir()
        early = stack.enter_context(Prometheus(folders[0], [], INTERVAL_S, pools=pools))
        victoria = stack.enter_context(VictoriaMetrics(tmp_path, places[0], INTERVAL_S))
        stack.enter_context(runs)
        command.wait_for(lambda: early.number("max(scrape_samples_scraped) > 40") is not None, "a scrape")
        late = stack.enter_context(Prometheus(folders[1], [], INTERVAL_S, pools=pools[:EACH:4]))
        runs.wait()
        truth = {key: joules for key, joules in runs.joules().items() if joules > 0.0}
        late_count = len(pools[:EACH:4])
        for server, count in ((early, len(pools)), (late, late_count), (victoria, 1)):
            command.wait_for(partial(has_seen_the_end, server, count), "the end of all runs in every pool")

        for server, count in ((early, len(pools)), (late, late_count)):
            expected = {
                (f"pool-{number}", *key): joules for number in range(count) for key, joules in truth.items()
            }
            assert by_phase(server.query(f"last_over_time({TOTAL}[5m])")) == pytest.approx(expected, rel=1e-9)
            raw = server.query(f"{TOTAL}[5m]")
            grown = by_phase([{**found, "value": (0, steps(found["values"]))} for found in raw])
            assert grown == pytest.approx(expected, rel=1e-9)
            # Starts are told again where a scrape has failed: it ended the connection.
            failed = {found["metric"]["job"] for found in server.query("min_over_time(up[5m]) == 0")}
            assert set(re.findall("scrape_pool=(\\S+).*out-of-order", server.log.read_text())) <= failed
            # increase() goes on with the last slope behind a last sample, so it is asked for that moment.
            for number in range(0, count, 7):
                of_pool = f'{TOTAL}{{job="pool-{number}"}}'
                last_s = max(float(found["values"][-1][0]) for found in server.query(f"{of_pool}[5m]"))
                found = by_phase(server.query(f"increase({of_pool}[5m])", last_s))
                alike = {key: joules for key, joules in expected.items() if key[0] == f"pool-{number}"}
                assert found == pytest.approx(alike, rel=0.01)
        for url in (early.url, victoria.url):
            for script in SCRIPTS:
                joules = [value for (run_id, _), value in truth.items() if run_id == script.run_id]
                assert reported_j(url, script.run_id) == pytest.approx(sum(joules)), "once, of 50 pools"
        for query in (f"last_over_time({TOTAL}[5m])", f"increase({TOTAL}[5m])"):
            found = by_phase(victoria.query(query))
            assert found == pytest.approx({("carbonmon", *key): value for key, value in truth.items()})


def reported_j(url: str, run_id: str) -> float:
    """What `report --prometheus` says."""
    (part,) = prometheus_report.find(url, run_id, environ={}).parts
    joules: float = part.summary["energy"]["total_j"]
    return joules


def has_seen_the_end(server: Prometheus | VictoriaMetrics, pools: int) -> bool:
    return server.number(f"count({END}) == {pools * len(SCRIPTS)}") is not None


def by_phase(result: list[Any]) -> Joules:
    """Sums of a result by job, run and phase."""
    sums: Joules = {}
    for found in result:
        labels = found["metric"]
        key = labels["job"], labels["run_id"], labels["phase"]
        sums[key] = sums.get(key, 0.0) + float(found["value"][1])
    return {key: value for key, value in sums.items() if value > 0.0}


def steps(values: list[tuple[float, str]]) -> float:
    """What `increase()` extrapolates: the steps of a counter, a smaller value counted from 0."""
    numbers = [float(value) for _, value in values]
    return sum(later - earlier if later >= earlier else later for earlier, later in pairwise(numbers))

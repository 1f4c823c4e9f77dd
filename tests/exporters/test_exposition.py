"""The text formats: the bytes of prometheus_client's own encoders."""

from __future__ import annotations

import gzip
import math
from functools import partial

import pytest
from carbonmon_exporters.collector import SnapshotCollector
from carbonmon_exporters.exposition import content_type_for, encoded, library_encoder, metrics_app
from carbonmon_exporters.families import as_counter, as_gauge, as_info
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Sample,
)
from prometheus_client.exposition import choose_encoder

from carbonmon.core import metrics as f
from tests.support.effort import examples
from tests.support.records import crowd

ACCEPTS = (
    "",
    "text/plain;version=0.0.4",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "text/plain;version=1.0.0;escaping=values",
    "application/openmetrics-text",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2",
    "application/openmetrics-text;version=1.0.0;escaping=dots",
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ['"', "\\", "\n", "é\t"]
)
VALUES = (
    st.floats() | st.integers(-(2**60), 2**60) | st.sampled_from([1e6, 999_999.999, -1e6, 1e21, 5e-324, -0.0])
)
TIMES = st.none() | st.floats(0.0, 4e9).map(lambda time_s: round(time_s, 3))
SAMPLES = st.lists(st.tuples(TEXTS, TEXTS, VALUES, TIMES), max_size=5)


class Collected:
    """A registry of given families."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def assert_same(families: list[Metric]) -> None:
    for accept in ACCEPTS:
        encoder, content_type = choose_encoder(accept)
        ours = encoded(families, content_type, partial(library_encoder, accept))
        assert ours.decode() == encoder(Collected(families)).decode(), accept  # type: ignore[arg-type]


@given(TEXTS, SAMPLES)
def test_every_text_value_and_time_is_written_as_the_library_writes_it(
    documentation: str, samples: list[tuple[str, str, float, float | None]]
):
    counter = CounterMetricFamily("made_joules", documentation, labels=("phase", "device"))
    gauge = GaugeMetricFamily("made_watts", documentation, labels=("b", "a"), unit="watts")
    info, bare = InfoMetricFamily("made", documentation), GaugeMetricFamily("made_alone", documentation)
    for first, second, value, time_s in samples:
        counter.add_metric((first, second), value, timestamp=time_s)
        gauge.add_metric((first, second), value, timestamp=time_s)
        info.add_metric((), {"name": first, f"label_{len(info.samples)}": second})
        bare.add_metric((), value, timestamp=time_s)
    assert_same([counter, gauge, info, bare])


@pytest.mark.parametrize("runs", [1, 7])
def test_a_whole_node_is_written_as_the_library_writes_it(runs: int):
    registry = CollectorRegistry()
    snapshot = crowd(runs)
    registry.register(SnapshotCollector(lambda: snapshot))
    assert_same(list(registry.collect()))


def test_what_is_kept_from_one_answer_to_the_next_is_never_that_of_other_runs():
    for runs in (3, 1, 50, 2):
        snapshot = crowd(runs)
        assert_same(SnapshotCollector(lambda snapshot=snapshot: snapshot).collect())  # type: ignore[misc]


def test_lines_of_runs_that_are_gone_are_forgotten():
    for number in range(30):
        family = as_counter(f.RUN_CPU)
        for run in range(10):
            family.add_metric((f"run-{number}-{run}",), 1.0)
        assert_same([family])
    assert len(family.beginnings) <= 30


@given(TEXTS, SAMPLES)
def test_rows_are_written_as_the_library_writes_their_samples(
    currency: str, samples: list[tuple[str, str, float, float | None]]
):
    counter, gauge, info = as_counter(f.RUN_NODE_ENERGY), as_gauge(f.RUN_COST), as_info(f.RUN_INFO)
    for run_id, component, value, time_s in samples:
        counter.add_metric((run_id, component), value, timestamp=time_s)
        gauge.add_metric([run_id, currency], value, time_s)
        info.add_metric((), {"zone": run_id, "name": component}, time_s)
    families: list[Metric] = [counter, gauge, info]
    for accept in ACCEPTS:
        encoder, content_type = choose_encoder(accept)
        ours = encoded(families, content_type, partial(library_encoder, accept))
        # The library's families, so that nothing of ours is what is compared with.
        library: list[Metric] = [
            CounterMetricFamily(counter.name, counter.documentation, labels=f.RUN_NODE_ENERGY.labels),
            GaugeMetricFamily(gauge.name, gauge.documentation, labels=f.RUN_COST.labels),
            InfoMetricFamily(info.name, info.documentation),
        ]
        for run_id, component, value, time_s in samples:
            library[0].add_metric((run_id, component), value, timestamp=time_s)  # type: ignore[attr-defined]
            library[1].add_metric((run_id, currency), value, timestamp=time_s)  # type: ignore[attr-defined]
            library[2].add_metric((), {"zone": run_id, "name": component}, timestamp=time_s)  # type: ignore[attr-defined]
        assert ours == encoder(Collected(library)), accept  # type: ignore[arg-type]


def test_a_time_of_creation_and_an_exemplar_are_left_to_the_library():
    for more in ({"created": 1.5e9}, {"exemplar": Exemplar({"trace_id": 'a"b'}, 2.0, 1.5e9)}):
        family = as_counter(f.RUN_CPU)
        family.add_metric(("a",), 1.0)
        family.add_metric(("b",), 2.0, **more)  # type: ignore[arg-type]
        family.add_metric(("c",), 3.0)
        assert [sample.labels["run_id"] for sample in family.samples if sample.name.endswith("_total")] == [
            *"abc"
        ]
        assert_same([family])


def test_rows_become_the_library_s_samples_when_they_are_asked_for():
    family = as_gauge(f.RUN_COST)
    family.add_metric(("a", "EUR"), 1.0)
    assert family.samples == [Sample("carbonmon_run_cost", {"run_id": "a", "currency": "EUR"}, 1.0)]
    family.samples.append(family.samples[0]._replace(value=2.0))
    family.add_metric(("b", "EUR"), 3.0)
    assert [sample.value for sample in family.samples] == [1.0, 2.0, 3.0]
    assert_same([family])
    family.samples = []
    assert family.is_empty


def test_a_kind_that_is_not_written_here_is_left_to_the_library():
    histogram = HistogramMetricFamily(
        "made_seconds", "x", buckets=[("1.0", 1.0), ("+Inf", 2.0)], sum_value=3.0
    )
    assert_same([GaugeMetricFamily("made_watts", "x", value=math.nan), histogram])


def test_what_is_asked_for_is_answered_in_the_format_and_the_packing_that_is_asked_for():
    registry = CollectorRegistry()
    snapshot = crowd(1)
    registry.register(SnapshotCollector(lambda: snapshot))
    started: list[tuple[str, list[tuple[str, str]]]] = []
    environ = {
        "QUERY_STRING": "name[]=carbonmon_build_info",
        "HTTP_ACCEPT": "application/openmetrics-text;version=1.0.0",
        "HTTP_ACCEPT_ENCODING": "deflate, gzip;q=1.0",
    }
    (body,) = metrics_app(registry)(environ, lambda *said: started.append(said[:2]))  # type: ignore[arg-type,func-returns-value]
    ((status, headers),) = started
    assert (status, dict(headers)["Content-Encoding"]) == ("200 OK", "gzip")
    assert dict(headers)["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    lines = gzip.decompress(body).decode().splitlines()
    assert [line.split("{")[0] for line in lines if not line.startswith("#")] == ["carbonmon_build_info"]
    assert lines[-1] == "# EOF"


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=zzz", "text/plain;version=x"])
def test_a_version_that_is_no_number_is_answered_in_the_text_format(accept: str):
    assert content_type_for(accept).startswith("text/plain; version=0.0.4")
    assert library_encoder(accept)(CollectorRegistry()) == b""


PARAMETERS = (
    *("version=1.0.0", "version=0.0.4", "version=0.0.1", " version=2.0.0", "version=1", "version="),
    *("escaping=allow-utf-8", "escaping=dots", "escaping=values", "escaping=x", "escaping=underscores"),
    *("q=0.5", "charset=utf-8", "version", "Version=1.0.0", "version=1.x.0", "version=x", "version=2.x"),
    *("version =1.0.0", "escaping= dots", "version=1.0.0=1", ""),
)
ACCEPTED = st.builds(
    lambda kind, parts: ";".join([kind, *parts]),
    st.sampled_from(["application/openmetrics-text", "text/plain", "*/*", " text/plain ", "text/html", ""]),
    st.lists(st.sampled_from(PARAMETERS), max_size=4),
)


@given(st.lists(ACCEPTED, max_size=4).map(",".join))
@example("")
@examples(300)
def test_the_format_is_the_one_that_the_library_chooses(accept: str):
    try:
        expected = choose_encoder(accept)[1]
    except TypeError:  # a version that is no number
        expected = choose_encoder("")[1]
    assert content_type_for(accept) == expected

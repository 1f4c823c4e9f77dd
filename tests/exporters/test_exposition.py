"""The text formats: the bytes of prometheus_client's own encoders."""

from __future__ import annotations

import gzip
import math

import pytest
from carbonmon_exporters.collector import SnapshotCollector
from carbonmon_exporters.exposition import encoded, metrics_app
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder

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
        ours = encoded(families, content_type, encoder)
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

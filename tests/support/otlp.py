"""What a collector decodes of the exporter `otlp`: points with all that there is to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from carbonmon_exporters.otlp import OtlpExporter
from carbonmon_exporters.push.pusher import Parcel
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from carbonmon.core.model import Snapshot
from tests.support.receivers import Received, Receiver

CUMULATIVE = 2
NO_RECORDED_VALUE = 1
S = 1_000_000_000
LIMIT_S = 60.0
"""For thousands of runs on a busy machine."""


class Point(NamedTuple):
    """One data point, with what there is to know of its metric."""

    value: float
    labels: dict[str, str]
    unit: str
    is_counter: bool
    resource: dict[str, str]
    start_s: float
    at_s: float
    is_recorded: bool


class Request(NamedTuple):
    """The points of one request by the name of the metric: what each series is now, what each counter began
    with, and the gauges that ended."""

    now: dict[str, list[Point]]
    zeros: dict[str, list[Point]]
    ended: dict[str, list[Point]]


def texts(attributes: Any) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in attributes}


def parsed(request: Received) -> Request:
    found = Request({}, {}, {})
    for name, points in _metrics(ExportMetricsServiceRequest.FromString(request.body)):
        last = {str(point.labels): number for number, point in enumerate(points)}
        for number, point in enumerate(points):
            is_last = last[str(point.labels)] == number
            kind = found.ended if not point.is_recorded else found.now if is_last else found.zeros
            kind.setdefault(name, []).append(point)
    for points in found.zeros.values():
        assert {point.value for point in points} == {0.0}
    return found


def decoded(request: Received) -> dict[str, list[Point]]:
    """What each series is now."""
    return parsed(request).now


def _metrics(message: ExportMetricsServiceRequest) -> Iterator[tuple[str, list[Point]]]:
    for part in message.resource_metrics:
        for scope in part.scope_metrics:
            assert scope.scope.name == "carbonmon"
            for metric in scope.metrics:
                assert metric.description
                is_counter = metric.HasField("sum")
                if is_counter:
                    assert metric.sum.is_monotonic
                    assert metric.sum.aggregation_temporality == CUMULATIVE
                yield (
                    metric.name,
                    [
                        Point(
                            point.as_double,
                            texts(point.attributes),
                            metric.unit,
                            is_counter,
                            texts(part.resource.attributes),
                            point.start_time_unix_nano / S,
                            point.time_unix_nano / S,
                            is_recorded=not point.flags & NO_RECORDED_VALUE,
                        )
                        for point in (*metric.sum.data_points, *metric.gauge.data_points)
                    ],
                )


def sent(collector: Receiver, *snapshots: Snapshot, began: Snapshot | None = None) -> list[Request]:
    """What the collector gets of these snapshots, of which the last is the monitor's last."""
    exporter = OtlpExporter(f"{collector.url}/v1/metrics", LIMIT_S)
    exporter.start(lambda: began or snapshots[0])
    for shown in snapshots[:-1]:
        exporter._pusher.finish(Parcel(shown, is_last=False), LIMIT_S)
    exporter.finish(snapshots[-1])
    exporter.close()
    return [parsed(request) for request in collector.received]


def exported(collector: Receiver, *snapshots: Snapshot) -> list[dict[str, list[Point]]]:
    """What each series was in the request of each of these snapshots, while the monitor lived."""
    return [request.now for request in sent(collector, *snapshots, snapshots[-1])[:-1]]

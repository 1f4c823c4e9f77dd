"""The connection to an OpenTelemetry collector: OTLP over HTTP, and why it could not deliver.

Importing this file takes OpenTelemetry's messages into memory.
"""

from __future__ import annotations

import gzip
import os

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from carbonmon.core.errors import CarbonmonError
from carbonmon.runs.summary.strings import one_line
from carbonmon_exporters.push.otlporigin import pairs
from carbonmon_exporters.push.sender import MAX_REASON, Sender


class Link:
    """Sends requests to one address; for one thread at a time.

    OTEL_EXPORTER_OTLP_HEADERS, _CERTIFICATE, _CLIENT_CERTIFICATE, _CLIENT_KEY and _COMPRESSION are heeded,
    and before them OTEL_EXPORTER_OTLP_METRICS_HEADERS and so on.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        """`url` is the full one, with its path."""
        self._url = url
        self._headers = {
            "Content-Type": "application/x-protobuf",
            **pairs(_variable("HEADERS")),
        }
        self._is_packed = _variable("COMPRESSION").strip().lower() == "gzip"
        if self._is_packed:
            self._headers["Content-Encoding"] = "gzip"
        own = _variable("CLIENT_CERTIFICATE")
        self._sender = Sender(
            timeout_s,
            _variable("CERTIFICATE") or os.environ.get("REQUESTS_CA_BUNDLE") or None,
            (own, _variable("CLIENT_KEY") or None) if own else None,
        )

    def send(self, request: ExportMetricsServiceRequest) -> None:
        """Raises CarbonmonError if the collector did not take all of it."""
        body = request.SerializeToString()
        try:
            data = gzip.compress(body) if self._is_packed else body
            reply = self._sender.send("POST", self._url, self._headers, data)
        except CarbonmonError as error:
            raise CarbonmonError(f"{self._url} {one_line(str(error), MAX_REASON)}") from None
        trouble = _refused(reply.body) if reply.is_yes else f"answers {reply.refusal()}"
        if trouble:
            raise CarbonmonError(f"{self._url} {trouble}")


def _variable(name: str) -> str:
    of_metrics = os.environ.get(f"OTEL_EXPORTER_OTLP_METRICS_{name}", "")
    return of_metrics or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "")


def _refused(body: bytes) -> str:
    """What a collector that took the rest says of data points that it refused, "" for none."""
    answer = ExportMetricsServiceResponse()
    try:
        answer.ParseFromString(body)
    # Some receivers answer in JSON, or with a page; protobuf's DecodeError comes without type information.
    except Exception:  # noqa: BLE001
        return ""
    partial = answer.partial_success
    if not partial.rejected_data_points:
        return ""
    return one_line(f"refuses a part of the metrics: {partial.error_message}", MAX_REASON)

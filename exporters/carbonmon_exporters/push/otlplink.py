"""The connection to an OpenTelemetry collector: the SDK's own exporter, and why it could not deliver.

Importing this file takes OpenTelemetry into memory.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

from carbonmon.core.errors import CarbonmonError
from carbonmon.runs.summary.strings import one_line

_log = logging.getLogger(__name__)

MAX_REASON = 120
MAX_CAUSES = 50


class Link:
    """Sends metrics data to one address; for one thread at a time."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """`url` is the full one, with its path. OTEL_EXPORTER_OTLP_HEADERS and _CERTIFICATE are heeded."""
        self._url = url
        _divert("opentelemetry")
        self._session = _Session(timeout_s)
        self._exporter = OTLPMetricExporter(url, timeout=timeout_s, session=self._session)

    def send(self, data: MetricsData) -> None:
        """Raises CarbonmonError if the collector did not take all of it."""
        self._session.trouble = ""
        result = MetricExportResult.FAILURE
        with suppress(requests.RequestException):  # older SDKs raise it, newer ones do not
            result = self._exporter.export(data)
        trouble = self._session.trouble
        if trouble or result is not MetricExportResult.SUCCESS:
            raise CarbonmonError(f"{self._url} {trouble or 'could not be sent the metrics'}")

    def close(self) -> None:
        self._exporter.shutdown()
        self._session.close()


class _Session(requests.Session):
    """Tells why a request failed in words that are the same each time, where the SDK only says that it did.

    The SDK tries again what may be better soon, some of its versions for a minute. By then there is
    something newer to send: all that fails is raised as what it does not try again.
    """

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self.trouble = ""
        self._timeout_s = timeout_s

    def send(self, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        try:
            response = self._reach(request, **more)
        except requests.RequestException as error:
            self.trouble = one_line(self._reason(error), MAX_REASON)
            raise requests.RequestException(self.trouble) from error
        if not 200 <= response.status_code < 300:
            self.trouble = one_line(f"answers {response.status_code} {response.reason}", MAX_REASON)
            raise requests.RequestException(self.trouble)
        self.trouble = _refused(response.content)
        return response

    def _reach(self, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        try:
            return super().send(request, **more)
        except requests.Timeout:
            raise
        except requests.ConnectionError:
            # The other side may have closed an idle connection that we have kept: a new one tells.
            return super().send(request, **more)

    def _reason(self, error: requests.RequestException) -> str:
        if isinstance(error, requests.Timeout):
            return f"did not answer in {self._timeout_s:g} s"
        if isinstance(error, requests.exceptions.SSLError):
            return f"cannot be trusted: {error}"
        return f"cannot be reached: {_cause(error)}"


def _cause(error: BaseException) -> str:
    """What the system says at the bottom of it; the texts on the way hold addresses of objects."""
    found = type(error).__name__
    causes: list[BaseException | None] = [error]
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if cause is not None and len(causes) < MAX_CAUSES:
            reason = getattr(cause, "reason", None)
            inner = [value for value in (*cause.args, reason) if isinstance(value, BaseException)]
            causes += [*inner, cause.__cause__, cause.__context__]
    return found


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


class _Diverted(logging.Handler):
    """Takes what another library logs into our own log, at debug level."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.debug("%s: %s", record.name, record.getMessage())


def _divert(name: str) -> None:
    """Take a library's log over, from all of its loggers, for as long as this process lives.

    Without it, warnings of a library whose log nobody set up go to stderr, at every attempt; a request that
    hangs may warn even after everything was closed.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(handler, _Diverted) for handler in logger.handlers):
        logger.addHandler(_Diverted())
    logger.propagate = False

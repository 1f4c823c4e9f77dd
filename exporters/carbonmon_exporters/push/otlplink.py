"""The connection to an OpenTelemetry collector: the SDK's own exporter, and why it could not deliver.

Importing this file takes OpenTelemetry into memory.
"""

from __future__ import annotations

import io
import logging
from contextlib import suppress
from functools import cache
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

from carbonmon.core.errors import CarbonmonError
from carbonmon.runs.summary.strings import one_line
from carbonmon_exporters.push.sender import MAX_REASON, Reply, Sender

_log = logging.getLogger(__name__)


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
    """Sends what the SDK has made ready, by our own client, and tells why it failed, where the SDK only says
    that it did, in words that are the same each time.

    The SDK tries again what may be better soon, some of its versions for a minute. By then there is
    something newer to send: all that fails is raised as what it does not try again.
    """

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self.trouble = ""
        self._timeout_s = timeout_s
        self._sender = cache(self._opened)

    def send(self, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        """Of `more` only the certificates count: time, size and way are those of our client."""
        try:
            # What the SDK sets here is meant for OpenTelemetry; requests prefers REQUESTS_CA_BUNDLE.
            verify = self.verify if isinstance(self.verify, str) else more.get("verify")
            reply = self._reply(request, verify, more.get("cert", self.cert))
        except CarbonmonError as error:
            self.trouble = one_line(str(error), MAX_REASON)
            raise requests.RequestException(self.trouble) from None
        if not reply.is_yes:
            self.trouble = f"answers {reply.refusal()}"
            raise requests.RequestException(self.trouble)
        self.trouble = _refused(reply.body)
        return _response(request, reply)

    def _reply(self, request: requests.PreparedRequest, verify: Any, cert: Any) -> Reply:
        # The SDK sets True for the authorities that requests brings along.
        authorities = verify if isinstance(verify, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
        sender = self._sender(authorities, (cert, None) if isinstance(cert, str) else cert)
        headers = {name: str(value) for name, value in request.headers.items() if name not in _OUR_HEADERS}
        assert isinstance(request.body, bytes)
        return sender.send(request.method or "POST", request.url or "", headers, request.body)

    def _opened(self, authorities: str, certificate: tuple[str, str | None] | None) -> Sender:
        return Sender(self._timeout_s, authorities, certificate)


_OUR_HEADERS = ("Connection", "Content-Length", "Accept-Encoding")


def _response(request: requests.PreparedRequest, reply: Reply) -> requests.Response:
    response = requests.Response()
    response.status_code, response.reason = reply.status, reply.reason
    response.url, response.request = request.url or "", request
    response.headers.update(reply.headers)
    response.raw = io.BytesIO(reply.body)
    return response


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

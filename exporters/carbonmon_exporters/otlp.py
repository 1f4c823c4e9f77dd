"""The exporter `otlp`: OpenTelemetry metrics, sent over HTTP to a collector or a database that takes them."""

from __future__ import annotations

from collections.abc import Callable

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Snapshot
from carbonmon.core.ports import Exporter, ExporterSettings
from carbonmon_exporters.push.exporter import PushingExporter
from carbonmon_exporters.push.pusher import TIMEOUT_S, Parcel, checked_url

PATH = "/v1/metrics"
OLD_PATH = "/opentelemetry/api/v1/push"
"""VictoriaMetrics' own, until it took the protocol's path as well."""
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


def open_exporter(settings: ExporterSettings) -> Exporter:
    """Make the exporter; raises ConfigError for a bad address, or where OpenTelemetry is not installed."""
    hint = f"set {HEADERS}=Authorization=Basic%20… in the environment"
    url = checked_url("otlp", settings.argument, "http://collector:4318", hint)
    try:
        return OtlpExporter(url if url.endswith((PATH, OLD_PATH)) else url + PATH, host=settings.host)
    except ImportError as error:
        raise ConfigError(
            f"--exporter: otlp needs OpenTelemetry ({error}): pip install 'carbonmon[otlp]'"
        ) from None


class OtlpExporter(PushingExporter):
    """Sends all that a scrape would show: at the start, every 15 s, at each run's end and at the last."""

    name = "otlp"
    verb = "sent"

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S, host: str | None = None) -> None:
        from carbonmon_exporters.push import otlpdata, otlplink, otlporigin

        super().__init__(url, timeout_s)
        self._message = otlpdata.message
        self._make_origin = otlporigin.Origin
        self._host = host
        self._link = otlplink.Link(url, timeout_s)
        self._origin: otlporigin.Origin | None = None
        self._told: otlpdata.Told | None = None
        self._began_s: float | None = None

    def start(self, latest: Callable[[], Snapshot]) -> str:
        """Where the metrics go; the monitor's own counters count since now."""
        self._began_s = latest().at_s
        return super().start(latest)

    def _send(self, parcel: Parcel) -> None:
        snapshot = parcel.snapshot
        if self._origin is None:
            began_s = None if snapshot.continued else self._began_s
            self._origin = self._make_origin(snapshot.version, began_s, self._host)
        request, told = self._message(snapshot, self._origin, self._told, parcel.is_last)
        self._link.send(request)
        self._told = told

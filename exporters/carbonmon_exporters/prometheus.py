"""The exporter `prometheus`: an HTTP endpoint with the newest snapshot as metrics."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, make_wsgi_app

from carbonmon.core.errors import CarbonmonError
from carbonmon.core.model import Snapshot
from carbonmon.core.ports import Exporter, ExporterSettings
from carbonmon.net.address import is_loopback
from carbonmon_exporters.collector import OwnProcessCollector, SnapshotCollector
from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.routes import METRICS_PATH, Routes
from carbonmon_exporters.endpoint.scrapers import Scrapers
from carbonmon_exporters.endpoint.server import (
    IDLE_TIMEOUT_S,
    MAX_CONNECTIONS,
    READ_TIMEOUT_S,
    MetricsServer,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_log = logging.getLogger(__name__)


def open_exporter(settings: ExporterSettings) -> Exporter:
    """Make the exporter; it binds its port when it is started. Raises ConfigError for a bad web config."""
    return PrometheusExporter(settings)


class PrometheusExporter:
    """Serves `/metrics`, `/-/healthy` and `/-/ready` until it is closed."""

    name = "prometheus"

    def __init__(
        self,
        settings: ExporterSettings,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        idle_timeout_s: float = IDLE_TIMEOUT_S,
        max_connections: int = MAX_CONNECTIONS,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._policy = AccessPolicy(settings.web_config)
        self._read_timeout_s = read_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._max_connections = max_connections
        self._wall_clock = wall_clock
        self._server: MetricsServer | None = None

    def start(self, latest: Callable[[], Snapshot]) -> str:
        """Serve; returns the address of the metrics, and says so if it is not the port asked for.

        Raises CarbonmonError when no port can be had.
        """
        registry = CollectorRegistry()
        registry.register(SnapshotCollector(latest))
        registry.register(OwnProcessCollector(self._settings.procfs))
        scrapers = Scrapers(lambda: latest().continued, self._wall_clock)
        app = Routes(make_wsgi_app(registry), lambda: latest().samples > 0, scrapers)
        host, port = self._settings.listen
        remark = ""
        try:
            server = self._bind(host, port, app)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _unavailable(host, port, error) from error
            remark = f" (port {port} was taken)"
            try:
                server = self._bind(host, 0, app)
            except OSError as second:
                raise _unavailable(host, 0, second) from second
        except (OverflowError, UnicodeError) as error:  # what getaddrinfo and bind say to nonsense
            raise _unavailable(host, port, error) from error
        self._server = server
        server.start()
        where = _join(server.server_name, server.server_port)
        if not is_loopback(server.server_name):
            self._warn_of(where)
        return f"{'https' if self._policy.is_tls else 'http'}://{where}{METRICS_PATH}{remark}"

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Nothing to do: each scrape asks for the newest snapshot itself."""

    def finish(self, final: Snapshot) -> None:
        """Nothing to do: the last snapshot stays served until the exporter is closed."""

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _warn_of(self, where: str) -> None:
        """Say what strangers can do at an address that other machines reach."""
        if not self._policy.authenticates:
            _log.warning(
                "the metrics at %s have no authentication: whoever reaches that address can read them; "
                "name users or a client_ca_file with --web-config FILE, or listen on 127.0.0.1",
                where,
            )
        elif not self._policy.is_tls:
            _log.warning(
                "passwords for the metrics at %s cross the network in clear text: "
                "add tls_server_config to the file of --web-config",
                where,
            )

    def _bind(self, host: str, port: int, app: WSGIApplication) -> MetricsServer:
        return MetricsServer(
            (host, port),
            app,
            self._policy,
            read_timeout_s=self._read_timeout_s,
            idle_timeout_s=self._idle_timeout_s,
            max_connections=self._max_connections,
        )


def _unavailable(host: str, port: int, error: Exception) -> CarbonmonError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    where = _join(host, port)
    return CarbonmonError(
        f"cannot serve metrics at {where}: {reason}; choose another place with --listen ADDRESS:PORT"
    )


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

"""The exporter `prometheus`: an HTTP endpoint with the newest snapshot as metrics."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from carbonmon.core.errors import CarbonmonError, ConfigError
from carbonmon.core.model import Snapshot
from carbonmon.core.ports import Exporter, ExporterSettings
from carbonmon.net.address import is_loopback
from carbonmon_exporters.endpoint.access import AccessPolicy
from carbonmon_exporters.endpoint.server import (
    IDLE_TIMEOUT_S,
    MAX_CONNECTIONS,
    READ_TIMEOUT_S,
    MetricsServer,
    resolve,
)
from carbonmon_exporters.endpoint.settings import METRICS_PATH
from carbonmon_exporters.library_parts import spare_the_package

if TYPE_CHECKING:
    from carbonmon_exporters.answers import Answers
    from carbonmon_exporters.ended.runs import Ended

_log = logging.getLogger(__name__)

_MISTAKES = {
    errno.EADDRNOTAVAIL: "this machine has no such address (see: ip address)",
    errno.EAFNOSUPPORT: "this machine has no addresses of that kind",
    errno.EACCES: "no right to that port (those below 1024 are root's)",
    socket.EAI_NONAME: "no address is known by that name",
}
"""What makes an address wrong on this machine until somebody changes one of them, and how that is said."""


def open_exporter(settings: ExporterSettings) -> Exporter:
    """Make the exporter; it binds its port when it is started. Raises ConfigError for a bad web config."""
    return PrometheusExporter(settings)


class PrometheusExporter:
    """Serves `/metrics`, the page and the probes until it is closed, then leaves the end of its runs.

    What it answers (`answers.py`) is loaded when somebody asks for the first time.
    """

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
        self._latest: Callable[[], Snapshot] | None = None
        self._taken_over: list[Ended] = []
        self._answers: Answers | None = None
        self._lock = threading.Lock()
        self._final: Snapshot | None = None
        self._target: Path | None = None
        self._trouble = ""

    def start(self, latest: Callable[[], Snapshot]) -> str:
        """Serve; returns the address of the metrics, and says so if it is not the port asked for.

        A port on which ended runs of ours are served is taken, and these runs are shown as well. Raises
        ConfigError for an address at which nothing of this machine can ever be served, and CarbonmonError
        when no port can be had.
        """
        try:
            place = self._start(latest)
        except CarbonmonError as error:
            self._trouble = str(error)
            raise
        self._trouble = ""
        return place

    def _start(self, latest: Callable[[], Snapshot]) -> str:
        self._latest = latest
        host, port = self._settings.listen
        remark = ""
        try:
            server = self._bind(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _unavailable(host, port, error) from error
            taken = self._take_over(host, port)
            if taken is not None:
                server = taken
            elif self._settings.keeps_address:
                from carbonmon_exporters.endpoint.holder import holder_of

                who = holder_of(port)
                raise CarbonmonError(
                    f"{_join(host, port)} is held by {who}: end it, or choose another place with "
                    "--listen ADDRESS:PORT"
                ) from error
            else:
                remark = f" (port {port} was taken)"
                try:
                    server = self._bind(host, 0)
                except OSError as second:
                    raise _unavailable(host, 0, second) from second
        except (OverflowError, UnicodeError) as error:  # what getaddrinfo and bind say to nonsense
            raise _unavailable(host, port, error) from error
        self._server = server
        server.start()
        where = _join(server.server_name, server.server_port)
        if not is_loopback(server.server_name):
            self._warn_of(where)
        scheme = "https" if self._policy.is_tls else "http"
        if self._settings.targets is not None:
            from carbonmon_exporters.endpoint import file_sd

            self._target = file_sd.announce(
                self._settings.targets, scheme, server.server_name, server.server_port
            )
        return f"{scheme}://{where}{METRICS_PATH}{remark}"

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Each scrape asks for the newest snapshot itself. Raises CarbonmonError while nothing is served."""
        if self._trouble:
            raise CarbonmonError(self._trouble)

    def finish(self, final: Snapshot) -> None:
        """Keep the last snapshot: it stays served until the exporter is closed, and perhaps after that."""
        self._final = final
        self.checkpoint(final)

    def close(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.stop_accepting()
        if not self._leave(server.socket) and self._target is not None:
            with contextlib.suppress(OSError):
                self._target.unlink()
        server.close()

    def _loaded(self) -> Answers:
        """What is answered, loaded now if nobody has asked before; for any thread."""
        with self._lock:
            if self._answers is None:
                spare_the_package()
                from carbonmon_exporters.answers import Answers

                assert self._latest is not None
                self._answers = Answers(self._latest, self._settings, self._wall_clock, self._taken_over)
            return self._answers

    def _take_over(self, host: str, port: int) -> MetricsServer | None:
        """A server at the port of ended runs of ours; None if others have it, or protect it otherwise."""
        from carbonmon_exporters.ended.takeover import take_over

        taken = take_over((resolve(host, port)[1], port), self._policy, self._settings.targets)
        if taken is None:
            return None
        listening, self._taken_over = taken
        return self._bind(host, port, listening)

    def _leave(self, listening: socket.socket) -> bool:
        """Have a process serve what somebody may not have seen yet; False if nothing is served."""
        has_target = self._target is not None
        if self._answers is None and not self._taken_over and not has_target:
            return False  # nobody came
        left = self._loaded().left(self._final, has_target)
        if not left:
            return False
        from carbonmon_exporters.ended.bundle import Bundle
        from carbonmon_exporters.ended.start import start

        return start(listening, Bundle.of(left, self._policy, self._target))

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

    def _bind(self, host: str, port: int, listening: socket.socket | None = None) -> MetricsServer:
        return MetricsServer(
            (host, port),
            lambda: self._loaded().app,
            self._policy,
            read_timeout_s=self._read_timeout_s,
            idle_timeout_s=self._idle_timeout_s,
            max_connections=self._max_connections,
            listening=listening,
        )


def _unavailable(host: str, port: int, error: Exception) -> CarbonmonError:
    """The error, as a ConfigError where the address itself is wrong on this machine."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    is_mistake = not isinstance(error, OSError) or error.errno in _MISTAKES
    if is_mistake and isinstance(error, OSError):
        reason = _MISTAKES[error.errno or 0]
    text = f"cannot serve metrics at {_join(host, port)!r}: {reason}; choose another place with "
    return (ConfigError if is_mistake else CarbonmonError)(f"{text}--listen ADDRESS:PORT")


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

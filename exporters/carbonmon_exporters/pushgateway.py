"""The exporter `pushgateway`: the totals of each run on a Prometheus Pushgateway, where they stay."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from prometheus_client import push_to_gateway
from prometheus_client.exposition import basic_auth_handler, default_handler

from carbonmon.core.errors import CarbonmonError, ConfigError
from carbonmon.core.model import Snapshot
from carbonmon.core.ports import Exporter, ExporterSettings
from carbonmon.runs.summary.strings import encodable, one_line
from carbonmon_exporters.push.pace import Pace
from carbonmon_exporters.push.pusher import TIMEOUT_S, Parcel, Pusher, checked_url
from carbonmon_exporters.push.rungroup import Group, RunGroups

_log = logging.getLogger(__name__)

JOB = "carbonmon"
USERNAME, PASSWORD = "CARBONMON_PUSHGATEWAY_USERNAME", "CARBONMON_PUSHGATEWAY_PASSWORD"
MAX_REASON = 120


def open_exporter(settings: ExporterSettings) -> Exporter:
    """Make the exporter; raises ConfigError for an address that is none, or half of a login."""
    hint = f"set {USERNAME} and {PASSWORD} in the environment"
    url = checked_url("pushgateway", settings.argument, "http://gateway:9091", hint)
    return PushgatewayExporter(url, _login(os.environ))


class PushgatewayExporter:
    """Pushes a group for each run when it begins, every 15 s, and for good when it has ended.

    The grouping key is `job`, `instance` (the host) and `run_id`: neither nodes nor runs overwrite one
    another. A group is replaced as a whole (PUT), so that nothing stays in it that is unknown by now.
    """

    name = "pushgateway"

    def __init__(self, url: str, login: tuple[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._handler: Callable[..., Callable[[], None]] = default_handler
        if login is not None:
            self._handler = partial(basic_auth_handler, username=login[0], password=login[1])
            _warn_of_clear_text(url)
        self._pace = Pace()
        self._groups = RunGroups()
        self._pusher = Pusher(self.name, self._send)
        self._latest: Callable[[], Snapshot] | None = None

    def start(self, latest: Callable[[], Snapshot]) -> str:
        """Where the totals are pushed to; nothing is sent before the first checkpoint."""
        self._latest = latest
        return f"pushed to {self._url}"

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Push soon if it is time; raises CarbonmonError while the gateway takes nothing."""
        chosen = self._pace.choose(snapshot, snapshot if self._latest is None else self._latest())
        if chosen is not None:
            self._pusher.offer(Parcel(chosen, is_last=False))
        self._pusher.check()

    def finish(self, final: Snapshot) -> None:
        """Push the last totals; raises CarbonmonError if they do not arrive in time."""
        self._pusher.finish(Parcel(final, is_last=True), self._timeout_s)

    def close(self) -> None:
        """The groups stay on the gateway: they are scraped after the job's end."""
        self._pusher.close()

    def _send(self, parcel: Parcel) -> None:
        """Push every run that is not yet there for good.

        What the gateway refuses of one run does not keep the others back; one that does not answer does.
        """
        refusals = [self._push(group) for group in self._groups.due(parcel.snapshot, parcel.is_last)]
        refused = next(filter(None, refusals), "")
        if refused:
            raise CarbonmonError(f"{self._url} refuses what is pushed: {refused}")

    def _push(self, group: Group) -> str:
        """Push one run; returns why the gateway refuses it, "" if it does not. Raises CarbonmonError."""
        info, is_delivered = group.run.info, False
        key = {"instance": encodable(info.host), "run_id": encodable(info.id)}
        try:
            push_to_gateway(self._url, JOB, group, key, self._timeout_s, self._handler)
            is_delivered = True
        except HTTPError as error:
            return _reason(error)
        except URLError as error:
            raise CarbonmonError(f"{self._url} cannot be reached: {error.reason}") from error
        except TimeoutError as error:
            raise CarbonmonError(f"{self._url} did not answer in {self._timeout_s:g} s") from error
        except HTTPException as error:
            raise CarbonmonError(f"{self._url} does not speak HTTP: {type(error).__name__}") from error
        finally:
            self._groups.settle(group, is_delivered)
        return ""


def _reason(error: HTTPError) -> str:
    """The answer's status and the beginning of what it says, which is the gateway's own reason."""
    with error:
        try:
            said = error.read(4 * MAX_REASON).decode("utf-8", "replace")
        except OSError:
            said = ""
    return one_line(f"{error.code} {error.reason} {said}".strip(), MAX_REASON)


def _login(environ: Mapping[str, str]) -> tuple[str, str] | None:
    username, password = environ.get(USERNAME), environ.get(PASSWORD)
    if not username and not password:
        return None
    if not username or not password:
        missing, given = (USERNAME, PASSWORD) if not username else (PASSWORD, USERNAME)
        raise ConfigError(f"{given} is set and {missing} is not: set both, or neither")
    return username, password


def _warn_of_clear_text(url: str) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_near = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_near = False
    if parts.scheme != "https" and not is_near:
        _log.warning("the password for %s crosses the network in clear text: give an https address", url)

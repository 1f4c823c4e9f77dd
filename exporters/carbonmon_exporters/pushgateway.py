"""The exporter `pushgateway`: the totals of each run on a Prometheus Pushgateway, where they stay."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from prometheus_client import push_to_gateway

from carbonmon.core.errors import CarbonmonError, ConfigError
from carbonmon.core.ports import Exporter, ExporterSettings
from carbonmon.net.address import basic_login, is_loopback
from carbonmon.runs.summary.strings import encodable
from carbonmon_exporters.push.exporter import PushingExporter
from carbonmon_exporters.push.pusher import TIMEOUT_S, Parcel, checked_url
from carbonmon_exporters.push.rungroup import Group, RunGroups
from carbonmon_exporters.push.sender import Reply, Sender

_log = logging.getLogger(__name__)

JOB = "carbonmon"
USERNAME, PASSWORD = "CARBONMON_PUSHGATEWAY_USERNAME", "CARBONMON_PUSHGATEWAY_PASSWORD"
_MAX_SAID_BYTES = 480


def open_exporter(settings: ExporterSettings) -> Exporter:
    """Make the exporter; raises ConfigError for an address that is none, or half of a login."""
    hint = f"set {USERNAME} and {PASSWORD} in the environment"
    url = checked_url("pushgateway", settings.argument, "http://gateway:9091", hint)
    return PushgatewayExporter(url, _login(os.environ))


class PushgatewayExporter(PushingExporter):
    """Pushes a group for each run when it begins, every 15 s, and for good when it has ended.

    The grouping key is `job`, `instance` (the host) and `run_id`: neither nodes nor runs overwrite one
    another. A group is replaced as a whole (PUT), so that nothing stays in it that is unknown by now.
    """

    name = "pushgateway"
    verb = "pushed"

    def __init__(self, url: str, login: tuple[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(url, timeout_s)
        self._login = {} if login is None else {"Authorization": basic_login(*login)}
        if login is not None:
            _warn_of_clear_text(url)
        self._sender = Sender(timeout_s)
        self._groups = RunGroups()

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
        refusals: list[str] = []

        def handler(
            url: str, method: str, timeout: float | None, headers: Sequence[tuple[str, str]], data: bytes
        ) -> Callable[[], None]:
            return lambda: refusals.append(self._ask(url, method, dict(headers), data))

        try:
            push_to_gateway(self._url, JOB, group, key, self._timeout_s, handler)
            is_delivered = refusals == [""]
        finally:
            self._groups.settle(group, is_delivered)
        return refusals[0]

    def _ask(self, url: str, method: str, headers: Mapping[str, str], data: bytes) -> str:
        """What prometheus_client would have sent, with our own client; why it is refused, "" if it is not."""
        try:
            reply = self._sender.send(method, url, {**headers, **self._login}, data)
        except CarbonmonError as error:
            raise CarbonmonError(f"{self._url} {error}") from None
        return "" if reply.is_yes else _reason(reply)


def _reason(reply: Reply) -> str:
    """The answer's status and the beginning of what it says, which is the gateway's own reason."""
    return reply.refusal(reply.body[:_MAX_SAID_BYTES].decode("utf-8", "replace"))


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
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        _log.warning("the password for %s crosses the network in clear text: give an https address", url)

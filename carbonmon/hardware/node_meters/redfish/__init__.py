"""The node meter `redfish`: the power and energy that a management controller (BMC) tells over the network.

It opens no connection before its first read, and none at all unless `--node-meter redfish:URL` asks for it.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from carbonmon.core.errors import ConfigError, SensorReadError, SensorUnavailable
from carbonmon.core.files import secret_text
from carbonmon.core.node_meter import NodeReading
from carbonmon.core.ports import NodeMeter, NodeMeterSettings
from carbonmon.hardware.node_meters.redfish import chassis
from carbonmon.hardware.node_meters.redfish.account import ROOT, Account, Login
from carbonmon.net.address import address_of, is_loopback

MOST_NAMED = 8
"""Of so many chassis the user is told the paths."""

_EXAMPLE = "give for example --node-meter redfish:https://USER@bmc.example"


def open_meter(settings: NodeMeterSettings) -> NodeMeter:
    """The argument is the service's URL with the account's name, and may name one chassis by its path.

    Raises ConfigError for a URL or a password file that cannot be used.
    """
    option = "--node-meter redfish"
    try:
        parts = urlsplit(settings.argument)
        address = address_of(settings.argument)
        username, password = parts.username, parts.password
    except ValueError:
        raise ConfigError(f"{option}: it needs the URL of a Redfish service; {_EXAMPLE}") from None
    if password is not None:
        raise ConfigError(
            f"{option}: a password in a URL is seen by everybody on the machine: write it into a file and "
            "name that with --redfish-password-file"
        )
    if parts.query or parts.fragment:
        raise ConfigError(
            f"{option}: the URL has parameters, which a Redfish service has none of; {_EXAMPLE}"
        )
    login = None
    if username:
        if settings.password_file is None:
            raise ConfigError(f"{option}: the account needs its password: give --redfish-password-file FILE")
        if address.scheme == "http" and not is_loopback(address.host):
            raise ConfigError(f"{option}: over http the password would travel in clear; give https://…")
        login = Login(unquote(username), _password(settings.password_file))
    authorities = settings.authorities
    if authorities is not None and not authorities.exists():
        raise ConfigError(f"--redfish-ca-file: {authorities} does not exist")
    account = Account(
        f"{address.scheme}://{address.authority}", login, None if authorities is None else str(authorities)
    )
    path = parts.path.rstrip("/")
    return RedfishMeter(account, "" if path in ("", ROOT.rstrip("/")) else path)


class RedfishMeter:
    """Finds the node's chassis at the first read, and asks it from then on."""

    name = "redfish"
    is_slow = True
    period_s = 10.0
    """A question is a connection with TLS, and controllers refresh the figures every second at best."""

    def __init__(self, account: Account, chassis_path: str = "") -> None:
        self._account = account
        self._chosen = chassis_path
        self._found: tuple[str, str] | None = None
        self._line = ""

    def read(self) -> NodeReading:
        """Raises `SensorReadError`, and `SensorUnavailable` where the user must name a chassis."""
        if self._found is None:
            self._found = self._find()
        try:
            reading = chassis.reading_of(self._account.document(self._found[1]))
        except SensorReadError:
            self._found = None  # after an update of its firmware it may be elsewhere
            raise
        if reading.power_w is None and reading.energy_uj is None:
            raise SensorReadError(
                f"{self._account.host}: {self._found[1]} tells neither power nor energy now"
            )
        self._line = reading.line.partition(" ")[0]
        return reading

    def describe(self) -> str:
        where = "no chassis yet" if self._found is None else self._found[0]
        how = self._line or "power"
        return f"Redfish of {self._account.host}, {where}: {how}"

    def close(self) -> None:
        self._account.close()

    def _find(self) -> tuple[str, str]:
        """The paths of the node's chassis and of its document with the power.

        Raises `SensorReadError`, and `SensorUnavailable` where several may be the node's.
        """
        host = self._account.host
        paths = [self._chosen] if self._chosen else self._chassis_paths()
        found = []
        trouble = SensorReadError(f"{host}: no chassis that is a whole tells power or energy")
        for path in paths:
            body = self._account.document(path)
            if chassis.is_part(body) and not self._chosen:
                continue
            for place in filter(None, chassis.links_of(body)):
                try:
                    reading = chassis.reading_of(self._account.document(place))
                except SensorReadError as error:  # of two kinds of document it may have promised one it lacks
                    trouble = error
                    continue
                if reading.power_w is not None or reading.energy_uj is not None:
                    found.append((path, place))
                    break
        if not found:
            raise trouble
        if len(found) > 1:  # nobody but the user can mend that: to ask dozens of chassis each time does not
            raise SensorUnavailable(
                f"{host}: {len(found)} chassis tell power, and nothing says which of them is this node",
                f"--node-meter redfish:https://{host}{found[0][0]}, or another of "
                + ", ".join(path for path, _ in found[:MOST_NAMED]),
            )
        return found[0]

    def _chassis_paths(self) -> list[str]:
        root = self._account.document(ROOT)
        collection = chassis.reference(root.get("Chassis"))
        if not collection:
            raise SensorReadError(f"{self._account.host}: the service has no chassis")
        return chassis.references(self._account.document(collection), "Members")


def _password(path: Path) -> str:
    option = "--redfish-password-file"
    try:
        password = secret_text(path, "password").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigError(f"{option}: {path} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise ConfigError(f"{option}: {path} is not UTF-8; write the password alone into it") from None
    if not password or "\n" in password:
        raise ConfigError(f"{option}: {path} must hold the password and nothing else, in one line")
    return password

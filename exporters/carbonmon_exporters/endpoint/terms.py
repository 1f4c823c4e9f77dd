"""What holds at the door: the records that a web config becomes, small to import where there is none."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

ClientAuth = Literal["none", "if given", "required"]


class NotAllowedError(ConnectionError):
    """The client's certificate is valid, and none of its names is on the list."""


class Rate(NamedTuple):
    """A token bucket: so many requests a second (inf: no limit), and so many at once after a rest."""

    per_s: float
    burst: float


class Tls(NamedTuple):
    """`tls_server_config`; names of cipher suites are the format's own, that of the curve is OpenSSL's."""

    cert_file: Path
    key_file: Path
    client_auth: ClientAuth = "none"
    client_ca_file: Path | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefers_own_order: bool = True
    curve: str | None = None


class WebConfig(NamedTuple):
    """What a web config asks for; without any field the door is open. `users` are names and bcrypt hashes."""

    path: Path | None = None
    tls: Tls | None = None
    headers: tuple[tuple[str, str], ...] = ()
    users: Mapping[bytes, bytes] = MappingProxyType({})
    rate: Rate | None = None

    @property
    def authenticates(self) -> bool:
        """Whether nobody gets in without a password or a verified certificate."""
        return bool(self.users) or self._verifies

    @property
    def _verifies(self) -> bool:
        return self.tls is not None and self.tls.client_auth == "required"

    @property
    def _names_clients(self) -> bool:
        return self.tls is not None and bool(self.tls.client_allowed_sans)

    def files(self) -> tuple[Path, ...]:
        """The files whose change changes what is in force."""
        tls = self.tls
        own = () if tls is None else (tls.cert_file, tls.key_file, tls.client_ca_file)
        return tuple(path for path in (self.path, *own) if path is not None)

    def opens(self, before: WebConfig) -> str:
        """What this config no longer asks for and `before` did; "" if it is as strict, by its kinds."""
        gone = (
            ("tls_server_config", before.tls is not None and self.tls is None),
            ("basic_auth_users", bool(before.users) and not self.users),
            ("the check of client certificates", before._verifies and not self._verifies),
            ("client_allowed_sans", before._names_clients and not self._names_clients),
        )
        return " and ".join(what for what, is_gone in gone if is_gone)


class Terms(NamedTuple):
    """What holds for a connection from its beginning to its end."""

    config: WebConfig = WebConfig()
    context: ssl.SSLContext | None = None


class Refusal(NamedTuple):
    """A status and headers for who does not get in."""

    status: int
    headers: tuple[tuple[str, str], ...]

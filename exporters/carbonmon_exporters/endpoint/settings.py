"""The records of a web config and its settings for one connection; small to import without a web config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from carbonmon.core.records import NamedTuple

if TYPE_CHECKING:
    import ssl

METRICS_PATH = "/metrics"

ClientAuth = Literal["none", "if given", "required"]


class NotAllowedError(ConnectionError):
    """The client's certificate is valid, and none of its names is on the list."""


class Rate(NamedTuple):
    """A token bucket: so many requests a second (inf: no limit), and at most `burst` at once."""

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
    """The values of a web config; without any, all clients are allowed. `users` are names and hashes."""

    path: Path | None = None
    tls: Tls | None = None
    headers: tuple[tuple[str, str], ...] = ()
    users: Mapping[bytes, bytes] = MappingProxyType({})
    rate: Rate | None = None

    @property
    def authenticates(self) -> bool:
        """Whether every client needs a password or a verified certificate."""
        return bool(self.users) or self._requires_certificates

    @property
    def _requires_certificates(self) -> bool:
        return self.tls is not None and self.tls.client_auth == "required"

    @property
    def _restricts_names(self) -> bool:
        return self.tls is not None and bool(self.tls.client_allowed_sans)

    def files(self) -> tuple[Path, ...]:
        """The files that these values come from."""
        tls = self.tls
        own = () if tls is None else (tls.cert_file, tls.key_file, tls.client_ca_file)
        return tuple(path for path in (self.path, *own) if path is not None)

    def missing_protection(self, before: WebConfig) -> str:
        """The kinds of protection that `before` has and this config lacks; "" if it lacks none."""
        kinds = (
            ("tls_server_config", before.tls is not None and self.tls is None),
            ("basic_auth_users", bool(before.users) and not self.users),
            (
                "the check of client certificates",
                before._requires_certificates and not self._requires_certificates,
            ),
            ("client_allowed_sans", before._restricts_names and not self._restricts_names),
        )
        return " and ".join(kind for kind, is_missing in kinds if is_missing)


class ConnectionSettings(NamedTuple):
    """The web config and TLS context of one connection, which do not change while it is open."""

    config: WebConfig = WebConfig()
    context: ssl.SSLContext | None = None


class Refusal(NamedTuple):
    """Status and headers of the answer to a refused request."""

    status: int
    headers: tuple[tuple[str, str], ...]

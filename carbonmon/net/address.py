"""Where a URL leads: its parts, whether that is this machine, and a login as HTTP spells it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

_PORTS = {"http": 80, "https": 443}
_PLAIN_URL = pattern(r"[!-~]+")
_PLAIN_HEADER = pattern(r"[\t\x20-\x7e]*")


class Address(NamedTuple):
    """Scheme, host and port are the origin of a URL; `authority` is HOST:PORT as it is written there."""

    scheme: str
    host: str
    port: int
    authority: str
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        return self[:3]


def address_of(url: str) -> Address:
    """The parts of an http or https URL; raises ValueError for any other. User and password are left out."""
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port
    if parts.scheme not in _PORTS or not host or port == 0:
        raise ValueError("it is no URL of http or https")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    authority = parts.netloc.rpartition("@")[2]
    if not authority.isascii():
        host, authority = (text.encode("idna").decode() for text in (host, authority))
    if not _PLAIN_URL.fullmatch(authority + target):
        raise ValueError("a URL holds characters that none may hold")
    return Address(parts.scheme, host, port or _PORTS[parts.scheme], authority, target)


def ip_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a host is, with IPv4 in IPv6 as IPv4; None for a name."""
    from ipaddress import ip_address

    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means the machine itself."""
    if host in ("127.0.0.1", "::1", "localhost"):
        return True
    address = ip_of(host)
    return address is not None and address.is_loopback


def basic_login(username: str, password: str) -> str:
    """The value of the header `Authorization` (RFC 7617)."""
    import base64

    return f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"


def are_plain(values: Iterable[str]) -> bool:
    """Whether headers may hold these values; a line break in one would be a header of its own."""
    return all(map(_PLAIN_HEADER.fullmatch, values))

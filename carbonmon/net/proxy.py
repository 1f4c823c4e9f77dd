"""The proxy that the environment names for a URL: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`.

The rules are those of curl and of Go's net/http/httpproxy: lower case goes before upper case, this machine is
never asked through a proxy, and `no_proxy` knows names with all below them, ports, addresses and nets (CIDR).
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from urllib.parse import unquote, urlsplit

from carbonmon.core.records import NamedTuple
from carbonmon.net.address import Address, address_of, basic_login, ip_of, is_loopback


class Proxy(NamedTuple):
    """`login` is the value of Proxy-Authorization, "" for none. Its text is HOST:PORT alone."""

    host: str
    port: int
    login: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Proxy-Authorization": self.login} if self.login else {}

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def proxy_for(address: Address, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy to ask, None for the server itself; raises ValueError for one that cannot be used."""
    text = _variable(environ, f"{address.scheme}_proxy") or _variable(environ, "all_proxy")
    if not text or is_loopback(address.host) or is_exempt(address, _variable(environ, "no_proxy")):
        return None
    url = text if "://" in text else f"http://{text}"
    # To a proxy that itself speaks TLS the standard library knows no way for https.
    if not url.startswith("http://"):
        raise ValueError("a proxy of another kind than http://HOST:PORT")
    place, parts = address_of(url), urlsplit(url)
    has_login = parts.username is not None
    login = basic_login(unquote(parts.username or ""), unquote(parts.password or "")) if has_login else ""
    return Proxy(place.host, place.port, login)


def is_exempt(address: Address, no_proxy: str) -> bool:
    """Whether `no_proxy` names the host. No name is looked up: addresses count for URLs that have one."""
    return any(_covers(entry.strip().lower(), address) for entry in no_proxy.split(",") if entry.strip())


def _covers(entry: str, address: Address) -> bool:
    if entry == "*":
        return True
    ip = ip_of(address.host)
    if "/" in entry:
        try:
            return ip is not None and ip in ip_network(entry, strict=False)
        except ValueError:
            return False
    named = ip_of(entry)
    if named is None:
        name, colon, port = entry.rpartition(":")
        if colon:
            if port != str(address.port):
                return False
            entry, named = name, ip_of(name)
    if named is not None or ip is not None:
        return named == ip
    name = entry.removeprefix("*").lstrip(".")
    return bool(name) and (address.host == name or address.host.endswith(f".{name}"))


def _variable(environ: Mapping[str, str], name: str) -> str:
    for spelled in (name, name.upper()):
        if spelled in environ:
            return environ[spelled].strip()
    return ""

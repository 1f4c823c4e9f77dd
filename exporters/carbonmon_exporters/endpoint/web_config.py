"""Reads the file of `--web-config`, in the format of Prometheus' exporter-toolkit (`web-config.yml`).

A value that this server does not support is an error and never ignored. Every error names the file, the line
and the key, and none shows a value that may be secret.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from carbonmon.core.errors import ConfigError
from carbonmon_exporters.endpoint.settings import ClientAuth, Rate, Tls, WebConfig
from carbonmon_exporters.endpoint.yaml_file import Section, YamlFile, import_extra

if TYPE_CHECKING:
    from yaml.nodes import Node

MAX_COST = 15
"""A hash of this cost takes some 2 s; Prometheus gives a scrape 10 s."""

_CLIENT_AUTH: dict[str, ClientAuth] = {
    "NoClientCert": "none",
    "VerifyClientCertIfGiven": "if given",
    "RequireAndVerifyClientCert": "required",
}
_UNVERIFIED = {
    "RequestClientCert": "VerifyClientCertIfGiven",
    "RequireAnyClientCert": "RequireAndVerifyClientCert",
    "RequireClientCert": "RequireAndVerifyClientCert",
}
_VERSIONS = ("TLS12", "TLS13")
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_HASH = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def read_web_config(path: Path) -> WebConfig:
    """The web config in a file; relative paths in it are relative to its folder. Raises ConfigError."""
    file = YamlFile(path)
    sections = file.mapping(
        file.root(), "", ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
    )
    config = WebConfig(
        path,
        sections.read("tls_server_config", lambda node: _tls(file, node)),
        sections.read("http_server_config", lambda node: _headers(file, node)) or (),
        sections.read("basic_auth_users", lambda node: _users(file, node)) or {},
        sections.read("rate_limit", lambda node: _rate(file, node)),
    )
    if config == WebConfig(path):
        raise ConfigError(f"{path} is without effect: give tls_server_config or basic_auth_users")
    return config


def _tls(file: YamlFile, node: Node) -> Tls:
    known = ("cert_file", "key_file", "client_auth_type", "client_ca_file", "client_allowed_sans")
    more = ("min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites", "curve_preferences")
    inline = ("cert", "key", "client_ca")
    section = file.mapping(node, "tls_server_config", (*known, *more, *inline))
    for key in inline:
        if section.text(key):
            raise section.error(key, f"cannot be given inline here: put it into a file and name {key}_file")
    cert_file, key_file = section.path("cert_file"), section.path("key_file")
    if cert_file is None:
        raise section.error("cert_file", "missing: without it there is no TLS")
    if key_file is None:
        raise section.error("key_file", "missing: without it there is no TLS")
    low = section.choice("min_version", _VERSIONS, "TLS12")
    high = section.choice("max_version", _VERSIONS, "TLS13")
    if low > high:
        raise section.error("min_version", f"{low} is above max_version, {high}")
    curves = section.texts("curve_preferences")
    if len(curves) > 1 or not set(curves) <= _CURVES.keys():
        raise section.error("curve_preferences", f"give one of {', '.join(_CURVES)}, or leave it out")
    auth, ca_file, sans = _clients(section)
    return Tls(
        cert_file,
        key_file,
        auth,
        ca_file,
        sans,
        low,
        high,
        section.texts("cipher_suites"),
        section.boolean("prefer_server_cipher_suites", True),
        _CURVES[curves[0]] if curves else None,
    )


def _clients(section: Section) -> tuple[ClientAuth, Path | None, tuple[str, ...]]:
    """Whether clients need certificates, the authority that signs them, and the names that are allowed."""
    word = section.text("client_auth_type") or "NoClientCert"
    if word in _UNVERIFIED:
        raise section.error(
            "client_auth_type",
            f"{word} accepts certificates without verifying them, which protects nothing and is not "
            f"supported: give {_UNVERIFIED[word]} with a client_ca_file",
        )
    if word not in _CLIENT_AUTH:
        raise section.error("client_auth_type", f"{word!r:.60}: give {' or '.join(_CLIENT_AUTH)}")
    auth, ca_file = _CLIENT_AUTH[word], section.path("client_ca_file")
    if auth == "none" and ca_file is not None:
        raise section.error("client_ca_file", "of no use without a client_auth_type that verifies")
    if auth != "none" and ca_file is None:
        raise section.error("client_auth_type", f"{word} needs a client_ca_file to verify against")
    sans = section.texts("client_allowed_sans")
    if "client_allowed_sans" in section and not sans:
        raise section.error("client_allowed_sans", "is empty: add a name, or leave it out")
    if sans and auth != "required":
        raise section.error("client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert")
    return auth, ca_file, sans


def _headers(file: YamlFile, node: Node) -> tuple[tuple[str, str], ...]:
    section = file.mapping(node, "http_server_config", ("http2", "headers"))
    if section.boolean("http2", False):
        raise section.error("http2", "this server supports HTTP/1 only: give false, or leave it out")
    entries = section.read("headers", lambda node: file.mapping(node, "headers", tuple(_HEADERS)))
    headers = []
    for name, value_node in entries or ():
        value, values = file.text(value_node, name), _HEADERS[name]
        if value and values and value not in values:
            raise file.error(value_node, f"{name} must be {' or '.join(values)}")
        if not value.isascii():
            raise file.error(value_node, f"{name} must be in ASCII")
        if value:
            headers.append((name, value))
    return tuple(headers)


def _users(file: YamlFile, node: Node) -> dict[bytes, bytes]:
    section = file.mapping(node, "basic_auth_users")
    if not len(section):
        raise file.error(node, "basic_auth_users is empty: add a user, or leave it out")
    bcrypt = import_extra("bcrypt", "bcrypt")
    users = {}
    for name, value_node in section:
        if not name or ":" in name:
            raise file.error(value_node, f"user {name!r:.60}: a name is not empty and holds no colon")
        text = file.text(value_node, f"the hash of user {name!r:.60}")
        match = _HASH.fullmatch(text)
        try:
            if match is None:
                raise ValueError(text)
            bcrypt.hashpw(b"", b"$2b$04$" + text[7:29].encode())  # its salt, checked at the least cost
        except ValueError:
            raise file.error(
                value_node,
                f"user {name!r:.60} needs a bcrypt hash ($2y$10$…) of the password; "
                f"htpasswd -nBC 10 {name:.60} makes one",
            ) from None
        if not 4 <= int(match[1]) <= MAX_COST:
            raise file.error(
                value_node, f"user {name!r:.60}: a bcrypt cost of {match[1]} is not between 04 and {MAX_COST}"
            )
        users[name.encode()] = text.encode()
    return users


def _rate(file: YamlFile, node: Node) -> Rate:
    section = file.mapping(node, "rate_limit", ("interval", "burst"))
    interval = section.text("interval")
    parts = _DURATION_PART.findall(interval)
    if interval != "0" and (not parts or "".join(map("".join, parts)) != interval):
        raise section.error("interval", "give a time between two requests: 10ms, 1s; 0 for no limit")
    interval_s = math.fsum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if interval_s == 0.0:
        return Rate(math.inf, math.inf)
    burst = section.text("burst")
    if re.fullmatch(r"[0-9]{1,9}", burst) is None or int(burst) < 1:
        raise section.error("burst", "give the number of requests that may come at once, 1 or more")
    return Rate(1.0 / interval_s, float(burst))

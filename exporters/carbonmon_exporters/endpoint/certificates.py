"""Makes OpenSSL's context from `tls_server_config`: certificates, versions, cipher suites, client checks."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carbonmon.core.errors import ConfigError
from carbonmon_exporters.endpoint.settings import NotAllowedError, Tls

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERIFY = {"none": ssl.CERT_NONE, "if given": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_SUITES = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""Go's names, which the format uses, and OpenSSL's of the same suites up to TLS 1.2."""

_SUITES_OF_TLS13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""These are always on in TLS 1.3, here as in the exporter-toolkit: a list that names them gets them."""


def make_context(tls: Tls, where: Path | None) -> ssl.SSLContext:
    """The TLS context of a server whose web config is at `where`; raises ConfigError for unusable values."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.maximum_version = _VERSIONS[tls.max_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if not tls.prefers_own_order:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # Scrapes are minutes apart and Prometheus resumes no session: tickets would be of no use.
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    _choose_suites(context, tls, where)
    if tls.curve is not None:
        try:
            context.set_ecdh_curve(tls.curve)
        except (ValueError, ssl.SSLError):
            raise ConfigError(f"{where}: curve_preferences: this OpenSSL cannot use {tls.curve}") from None
    _load_certificate(context, tls, where)
    if tls.client_ca_file is not None:
        _load_client_ca(context, tls.client_ca_file, where)
    context.verify_mode = _VERIFY[tls.client_auth]
    return context


def check_names(certificate: Mapping[str, Any] | None, allowed: tuple[str, ...]) -> None:
    """Raise NotAllowedError unless some name (SAN) in the certificate equals an allowed one."""
    names = {
        _as_address(value) if kind == "IP Address" else value
        for kind, value in (certificate or {}).get("subjectAltName", ())
        if kind in ("DNS", "email", "URI", "IP Address")
    }
    if names.isdisjoint((*allowed, *map(_as_address, allowed))):
        raise NotAllowedError("no name in the client's certificate is in client_allowed_sans")


def _as_address(text: str) -> str:
    """An IP address in its usual spelling (OpenSSL has another for IPv6); any other text as it is."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return text


def _choose_suites(context: ssl.SSLContext, tls: Tls, where: Path | None) -> None:
    if not tls.cipher_suites:
        return
    older = [name for name in tls.cipher_suites if name not in _SUITES_OF_TLS13]
    unknown = next((name for name in older if name not in _SUITES), None)
    if unknown is not None:
        raise ConfigError(
            f"{where}: cipher_suites: {unknown!r:.60} is unknown; there are {', '.join(_SUITES)}"
        )
    if not older:
        if tls.min_version == "TLS13":
            return
        raise ConfigError(f"{where}: cipher_suites has suites of TLS 1.3 only: add min_version: TLS13")
    names = [_SUITES[name] for name in older]
    try:
        context.set_ciphers(":".join(names))
        offered = {suite["name"] for suite in context.get_ciphers()}
    except ssl.SSLError:
        offered = set()
    lost = next((name for name in older if _SUITES[name] not in offered), None)
    if lost is not None:
        raise ConfigError(
            f"{where}: cipher_suites: this machine's OpenSSL does not offer {lost}: leave it out"
        )


def _load_certificate(context: ssl.SSLContext, tls: Tls, where: Path | None) -> None:
    _check_readable("cert_file", tls.cert_file, where)
    _check_readable("key_file", tls.key_file, where)
    is_encrypted = False

    def no_passphrase() -> str:
        # Without this OpenSSL would ask at the terminal, and wait.
        nonlocal is_encrypted
        is_encrypted = True
        return ""

    try:
        context.load_cert_chain(tls.cert_file, tls.key_file, no_passphrase)
    except (ssl.SSLError, ValueError, OSError) as error:
        if is_encrypted:
            reason = "the key is encrypted; store it without a passphrase: openssl pkey -in OLD -out NEW"
        elif getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            reason = "the key does not belong to the certificate"
        else:
            reason = "they are not a certificate (with its chain, the server's own first) and a key in PEM"
        raise ConfigError(f"{where}: cert_file {tls.cert_file}, key_file {tls.key_file}: {reason}") from None


def _load_client_ca(context: ssl.SSLContext, path: Path, where: Path | None) -> None:
    _check_readable("client_ca_file", path, where)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise ConfigError(f"{where}: client_ca_file {path}: no certificate in PEM is in it") from None


def _check_readable(key: str, path: Path, where: Path | None) -> None:
    """OpenSSL does not say which file it could not read."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError(f"{where}: {key} {path} cannot be read: {error.strerror or error}") from None

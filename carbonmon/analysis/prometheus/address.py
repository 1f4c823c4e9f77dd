"""The address of a Prometheus server as the user gave it, and a login from the environment."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from carbonmon.analysis.prometheus.selectors import is_loopback
from carbonmon.core.errors import ConfigError

TOKEN = "CARBONMON_PROMETHEUS_TOKEN"
USERNAME, PASSWORD = "CARBONMON_PROMETHEUS_USERNAME", "CARBONMON_PROMETHEUS_PASSWORD"
TENANT = "CARBONMON_PROMETHEUS_TENANT"
"""Mimir and Cortex know the tenant by the header X-Scope-OrgID."""

_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")


def checked_url(text: str) -> tuple[str, str]:
    """The user's address of a server without a slash at its end, and its host for people to read.

    Raises ConfigError for an invalid address, and for one that holds a password, which is never shown.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if "@" in parts.netloc or (not host and "@" in text):
        raise ConfigError(
            "--prometheus: leave user and password out of the address: other users of this machine see "
            f"command lines; set {USERNAME} and {PASSWORD}, or {TOKEN}, in the environment"
        )
    is_plain = text.isprintable() and not any(character.isspace() for character in text.strip())
    if not host or port == 0 or parts.scheme not in ("http", "https") or not is_plain:
        hint = "give for example http://prometheus:9090"
        raise ConfigError(f"--prometheus: {text!r:.100} is not an address; {hint}")
    if parts.query or parts.fragment:
        raise ConfigError("--prometheus: give the address of the server alone, without ? and #")
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    return f"{parts.scheme}://{parts.netloc}{path}", f"{parts.netloc}{path}"


def login(environ: Mapping[str, str], base: str) -> dict[str, str]:
    """The headers of the login; raises ConfigError for half of a login, or for one in clear text."""
    token, username = environ.get(TOKEN, "").strip(), environ.get(USERNAME, "").strip()
    password = environ.get(PASSWORD, "")
    sent = {}
    if token and (username or password):
        raise ConfigError(f"{TOKEN} and {USERNAME} are both set: unset one")
    if bool(username) != bool(password):
        missing = PASSWORD if username else USERNAME
        raise ConfigError(f"{missing} is not set: set {USERNAME} and {PASSWORD}, or neither")
    if token:
        sent["Authorization"] = f"Bearer {token}"
    elif username:
        sent["Authorization"] = f"Basic {base64.b64encode(f'{username}:{password}'.encode()).decode()}"
    parts = urlsplit(base)
    if sent and parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ConfigError(
            "--prometheus: over http the login would cross the network in clear text; give an https address"
        )
    if tenant := environ.get(TENANT, "").strip():
        sent["X-Scope-OrgID"] = tenant
    if not all(map(_HEADER_VALUE.fullmatch, sent.values())):
        raise ConfigError(f"{TOKEN} or {TENANT} holds characters that no header may hold")
    return sent

"""The address of a Prometheus server as the user gave it, and a login from files or the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from carbonmon.core.errors import ConfigError
from carbonmon.net.address import are_plain, basic_login, is_loopback

TOKEN = "CARBONMON_PROMETHEUS_TOKEN"
USERNAME, PASSWORD = "CARBONMON_PROMETHEUS_USERNAME", "CARBONMON_PROMETHEUS_PASSWORD"
PASSWORD_FILE, TOKEN_FILE = "CARBONMON_PROMETHEUS_PASSWORD_FILE", "CARBONMON_PROMETHEUS_TOKEN_FILE"
TENANT = "CARBONMON_PROMETHEUS_TENANT"
TENANT_HEADERS = ("X-Scope-OrgID", "THANOS-TENANT")
"""Of Mimir and Cortex, and what Thanos listens to by default (its `--query.tenant-header`)."""

_MOST_BYTES = 1 << 16


class Login(NamedTuple):
    """What the user gave on the command line; what is missing there may be in the environment."""

    username: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    tenant: str | None = None


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
            "command lines; give --username and --password-file, or --token-file"
        )
    is_plain = text.isprintable() and not any(character.isspace() for character in text.strip())
    if not host or port == 0 or parts.scheme not in ("http", "https") or not is_plain:
        hint = "give for example http://prometheus:9090"
        raise ConfigError(f"--prometheus: {text!r:.100} is not an address; {hint}")
    if parts.query or parts.fragment:
        raise ConfigError("--prometheus: give the address of the server alone, without ? and #")
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    return f"{parts.scheme}://{parts.netloc}{path}", f"{parts.netloc}{path}"


def login(given: Login, environ: Mapping[str, str], base: str) -> tuple[dict[str, str], list[str]]:
    """The headers of the login, and what in them is secret.

    Raises ConfigError for half of a login, a file that holds none, or a login in clear text.
    """
    token = _secret(given.token_file, TOKEN_FILE, environ, TOKEN).strip()
    username = (given.username or environ.get(USERNAME, "")).strip()
    password = _secret(given.password_file, PASSWORD_FILE, environ, PASSWORD)
    if token and (username or password):
        raise ConfigError(f"a token ({TOKEN}) and a password ({USERNAME}) are both set: unset one")
    if bool(username) != bool(password):
        missing = f"{PASSWORD} is not set, nor --password-file" if username else f"{USERNAME} is not set"
        raise ConfigError(f"{missing}: set {USERNAME} and {PASSWORD}, or neither")
    sent = {}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    elif username:
        sent["Authorization"] = basic_login(username, password)
    parts = urlsplit(base)
    if sent and parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ConfigError(
            "--prometheus: over http the login would cross the network in clear text; give an https address"
        )
    secrets = [word for word in (sent.get("Authorization", "").partition(" ")[2], password) if word]
    if tenant := (given.tenant or environ.get(TENANT, "")).strip():
        sent.update(dict.fromkeys(TENANT_HEADERS, tenant))
    if not are_plain(sent.values()):
        raise ConfigError(f"the token ({TOKEN}) or {TENANT} holds characters that no header may hold")
    return sent, secrets


def _secret(given: Path | None, file_variable: str, environ: Mapping[str, str], variable: str) -> str:
    """The text of the file that was given or that the environment names, else that of the environment.

    White space around it is no part of it, as in the files of Prometheus' own configuration.
    """
    named = environ.get(file_variable, "")
    if given is None and not named:
        return environ.get(variable, "")
    path = given or Path(named)
    if given is None and environ.get(variable):
        raise ConfigError(f"{file_variable} and {variable} are both set: unset one")
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"{str(path)!r} cannot be read: {why}") from None
    if not text:
        raise ConfigError(f"{str(path)!r} is empty: it should hold a token or a password")
    return text

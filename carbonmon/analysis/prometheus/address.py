"""The address of a Prometheus server as the user gave it, and a login from files or the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.net.address import are_plain
from carbonmon.net.login import LoginVariables, authorization, name_and_password, secret, server_address

TOKEN = "CARBONMON_PROMETHEUS_TOKEN"
USERNAME, PASSWORD = "CARBONMON_PROMETHEUS_USERNAME", "CARBONMON_PROMETHEUS_PASSWORD"
PASSWORD_FILE, TOKEN_FILE = "CARBONMON_PROMETHEUS_PASSWORD_FILE", "CARBONMON_PROMETHEUS_TOKEN_FILE"
VARIABLES = LoginVariables(USERNAME, PASSWORD, PASSWORD_FILE)
TENANT = "CARBONMON_PROMETHEUS_TENANT"
TENANT_HEADERS = ("X-Scope-OrgID", "THANOS-TENANT")
"""Of Mimir and Cortex, and what Thanos listens to by default (its `--query.tenant-header`)."""


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
    secrets = "--username and --password-file, or --token-file"
    base, path = server_address(text, "--prometheus", "http://prometheus:9090", secrets)
    path = path.removesuffix("/api/v1")
    return f"{base}{path}", f"{base.partition('//')[2]}{path}"


def login(given: Login, environ: Mapping[str, str], base: str) -> tuple[dict[str, str], list[str]]:
    """The headers of the login, and what in them is secret.

    Raises ConfigError for half of a login, a file that holds none, or a login in clear text.
    """
    token = secret(given.token_file, TOKEN_FILE, environ, TOKEN).strip()
    username, password = name_and_password(given.username, given.password_file, environ, VARIABLES)
    if token and username:
        raise ConfigError(f"a token ({TOKEN}) and a password ({USERNAME}) are both set: unset one")
    sent = authorization("--prometheus", base, token, username, password)
    secrets = [word for word in (sent.get("Authorization", "").partition(" ")[2], password) if word]
    if tenant := (given.tenant or environ.get(TENANT, "")).strip():
        sent.update(dict.fromkeys(TENANT_HEADERS, tenant))
    if not are_plain(sent.values()):
        raise ConfigError(f"the token ({TOKEN}) or {TENANT} holds characters that no header may hold")
    return sent, secrets

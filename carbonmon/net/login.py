"""A user's own server: its address without a password in it, and secrets from files or the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple
from carbonmon.net.address import basic_login, is_loopback

_MOST_BYTES = 1 << 16


def server_address(text: str, option: str, example: str, secrets: str) -> tuple[str, str]:
    """Scheme and host of an address that the user gave, and its path without a slash at its end.

    `secrets` are the options for a login. Raises ConfigError for an invalid address, and for one that holds a
    password, which is never shown.
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if "@" in parts.netloc or (not host and "@" in text):
        raise ConfigError(
            f"{option}: leave user and password out of the address: other users of this machine see "
            f"command lines; give {secrets}"
        )
    is_plain = text.isprintable() and not any(character.isspace() for character in text.strip())
    if not host or port == 0 or parts.scheme not in ("http", "https") or not is_plain:
        raise ConfigError(f"{option}: {text!r:.100} is not an address; give for example {example}")
    if parts.query or parts.fragment:
        raise ConfigError(f"{option}: give the address of the server alone, without ? and #")
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")


def authorization(option: str, base: str, token: str, username: str, password: str) -> dict[str, str]:
    """The header of a login with a token or a name and a password, empty without one.

    Raises ConfigError where it would cross the network in clear text.
    """
    sent = {}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    elif username:
        sent["Authorization"] = basic_login(username, password)
    parts = urlsplit(base)
    if sent and parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ConfigError(
            f"{option}: over http the login would cross the network in clear text; give an https address"
        )
    return sent


class LoginVariables(NamedTuple):
    """The variables of the environment in which a login may be."""

    username: str
    password: str
    password_file: str


def name_and_password(
    username: str | None, password_file: Path | None, environ: Mapping[str, str], variables: LoginVariables
) -> tuple[str, str]:
    """A login of which the user gave parts on the command line, the others are in the environment; both are
    "" without one. Raises ConfigError for half of a login, and for a file that holds none."""
    name = (username or environ.get(variables.username, "")).strip()
    password = secret(password_file, variables.password_file, environ, variables.password)
    if bool(name) != bool(password):
        missing = (
            f"{variables.password} is not set, nor --password-file"
            if name
            else f"{variables.username} is not set, nor --username"
        )
        raise ConfigError(
            f"{missing}: give both or neither, as options or as {variables.username} and {variables.password}"
        )
    return name, password


def secret(given: Path | None, file_variable: str, environ: Mapping[str, str], variable: str) -> str:
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

"""Keys of live sources: from the environment, or from a file that no other user can read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import secret_text

ELECTRICITYMAPS_TOKEN = "CARBONMON_ELECTRICITYMAPS_TOKEN"
WATTTIME_USERNAME = "CARBONMON_WATTTIME_USERNAME"
WATTTIME_PASSWORD = "CARBONMON_WATTTIME_PASSWORD"
KEYS_FILE = "CARBONMON_KEYS_FILE"
"""Names a file of keys; without it there may be `keys.env` in the user's config folder."""

FILE_NAME = "keys.env"

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


class Key:
    """A secret that no log, message or traceback shows: only `reveal` returns it."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def reveal(self) -> str:
        """The secret itself, for the header that needs it."""
        return self._secret

    def __repr__(self) -> str:
        return "…"

    def __reduce__(self) -> str:
        raise TypeError("a key is not written anywhere")


def find_key(name: str, environ: Mapping[str, str], source: str) -> Key:
    """The key with a name; raises ConfigError if there is none, or for a file that others could read.

    `source` is the grid source that needs it, for the error.
    """
    secret = environ.get(name, "").strip()
    where = name
    if not secret:
        path = _path(environ)
        secret = _read(path, is_named=bool(environ.get(KEYS_FILE))).get(name, "")
        where = f"{path}: {name}"
        if not secret:
            raise ConfigError(
                f"{source} needs a key: set {name}, or write {name}=… into {path}, which only you may read: "
                f"chmod 600 {path}"
            )
    if not secret.isprintable():
        raise ConfigError(f"{where}: it holds characters that no key holds; copy it again")
    return Key(secret)


def _path(environ: Mapping[str, str]) -> Path:
    """The key file, in the config folder of click's `get_app_dir`, where the user's other files are."""
    named = environ.get(KEYS_FILE)
    if named:
        return Path(named)
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or "~", ".config")  # noqa: PTH118
    return Path(os.path.expanduser(base)) / "carbonmon" / FILE_NAME  # noqa: PTH111


def _read(path: Path, is_named: bool) -> dict[str, str]:
    """The keys in a file by name; none without a file, if none was named."""
    try:
        content = secret_text(path, "keys")
    except FileNotFoundError:
        if is_named:
            raise ConfigError(f"{KEYS_FILE}: {path} does not exist; write NAME=key into it") from None
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: the keys cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise ConfigError(f"{path}: it is not UTF-8; write lines NAME=key") from None
    keys: dict[str, str] = {}
    for number, line in enumerate(content.splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:  # the line itself is not shown: it may hold a key
            raise ConfigError(f"{path}: line {number} is not NAME=key; correct it, or put # before it")
        value = match[2]
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        keys[match[1]] = value
    return keys

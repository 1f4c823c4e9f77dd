"""Keys come from the environment or from a file that nobody else can read, and show nowhere."""

from __future__ import annotations

import copy
import logging
import os
import pickle
from pathlib import Path

import click
import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.grid import keys
from carbonmon.grid.keys import Key, find_key

NAME = keys.ELECTRICITYMAPS_TOKEN
SECRET = "s3cret-4711-token"


def in_file(path: Path, content: str | bytes, mode: int = 0o600) -> dict[str, str]:
    """The environment of a user with such a file of keys."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return {"CARBONMON_KEYS_FILE": str(path), "HOME": str(path.parent)}


def found(environ: dict[str, str], name: str = NAME) -> str:
    return find_key(name, environ, "electricitymaps").reveal()


def test_the_environment_goes_before_the_file(tmp_path: Path):
    environ = in_file(tmp_path / "keys", f"{NAME}=of-the-file\n")
    assert found({**environ, NAME: f" {SECRET}\n"}) == SECRET
    assert found({**environ, NAME: ""}) == "of-the-file"


def test_an_unreadable_file_is_no_matter_where_the_environment_has_the_key(tmp_path: Path):
    environ = in_file(tmp_path / "keys", "nonsense", mode=0o644)
    assert found({**environ, NAME: SECRET}) == SECRET


@pytest.mark.parametrize(
    "line",
    [
        f"{NAME}={SECRET}",
        f"  {NAME} = {SECRET}  ",
        f'{NAME}="{SECRET}"',
        f"export {NAME}='{SECRET}'",
        f"{NAME}={SECRET}\r",
    ],
)
def test_a_line_of_the_file_is_a_name_and_a_key(line: str, tmp_path: Path):
    content = f"\ufeff# keys of carbonmon\n\n{keys.WATTTIME_USERNAME}=ada\n{line}\nOTHER=1=2\n"
    environ = in_file(tmp_path / "keys", content)
    assert found(environ) == SECRET
    assert found(environ, keys.WATTTIME_USERNAME) == "ada"
    assert found(environ, "OTHER") == "1=2"


def test_without_a_name_the_file_lies_in_the_users_config_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in (("XDG_CONFIG_HOME", str(tmp_path / "config")), ("HOME", str(tmp_path / "home"))):
        monkeypatch.setenv(name, value)
        folder = Path(click.get_app_dir("carbonmon"))
        folder.mkdir(parents=True)
        in_file(folder / "keys.env", f"{NAME}={folder}\n")
        assert found(dict(os.environ)) == str(folder), "beside the TOML file, where click says"
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def test_a_missing_key_is_told_with_its_name_and_where_it_may_stand(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        found({"HOME": str(tmp_path)})
    path = tmp_path / ".config" / "carbonmon" / "keys.env"
    assert str(caught.value) == (
        f"electricitymaps needs a key: set {NAME}, or write {NAME}=… into {path}, which only you may read: "
        f"chmod 600 {path}"
    )


def test_a_named_file_that_is_not_there_is_a_mistake(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"CARBONMON_KEYS_FILE: .*/keys does not exist"):
        found({"CARBONMON_KEYS_FILE": str(tmp_path / "keys")})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o660, 0o644, 0o777])
def test_a_file_that_others_may_read_or_write_is_refused_with_the_command_that_mends_it(
    mode: int, tmp_path: Path
):
    environ = in_file(tmp_path / "keys", f"{NAME}={SECRET}\n", mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {tmp_path}/keys$") as caught:
        found(environ)
    assert SECRET not in str(caught.value)
    (tmp_path / "keys").chmod(0o600)
    assert found(environ) == SECRET


def test_the_permissions_are_those_of_the_file_behind_a_link(tmp_path: Path):
    environ = in_file(tmp_path / "real", f"{NAME}={SECRET}\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    environ["CARBONMON_KEYS_FILE"] = str(tmp_path / "link")
    assert found(environ) == SECRET
    (tmp_path / "real").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        found(environ)


def test_another_users_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    environ = in_file(tmp_path / "keys", f"{NAME}={SECRET}\n")
    own = (tmp_path / "keys").stat().st_uid
    if own == 0:
        os.chown(tmp_path / "keys", 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(
        ConfigError, match=rf"belongs to another user.*: chown {os.geteuid()} {tmp_path}/keys$"
    ):
        found(environ)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: os.mkfifo(path, 0o600)])
def test_a_folder_or_a_pipe_is_no_file_of_keys_and_nobody_waits_for_it(make, tmp_path: Path):
    make(tmp_path / "keys")
    with pytest.raises(ConfigError, match=r"/keys: .*(regular file|directory)"):
        found({"CARBONMON_KEYS_FILE": str(tmp_path / "keys")})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"# keys\n{SECRET}\n", "line 2 is not NAME=key"),
        (f"MY KEY={SECRET}\n", "line 1 is not NAME=key"),
        (b"\xff\xfe" + SECRET.encode(), "not UTF-8"),
        (f"{NAME}={SECRET}\n" * 4000, "longer than 65536 bytes"),
        (f"{NAME}={SECRET}\x07bell\n", "holds characters that no key holds"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_without_a_key(content: str | bytes, problem: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=problem) as caught:
        found(in_file(tmp_path / "keys", content))
    assert str(tmp_path / "keys") in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_key_with_a_line_break_in_the_environment_is_refused():
    with pytest.raises(ConfigError, match=f"{NAME}: it holds characters") as caught:
        found({NAME: f"{SECRET}\r\nHost: evil"})
    assert SECRET not in str(caught.value)


def test_a_key_shows_nowhere(caplog: pytest.LogCaptureFixture):
    key = Key(SECRET)
    logging.getLogger("carbonmon.test").warning("asked with %s and %r", key, [key])
    shown = f"{key} {key!r} {key!s:>5} {[key]} {vars(type(key))} {caplog.text}"
    assert SECRET not in shown
    assert str(key) == repr(key) == "…"
    for write in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not written"):
            write(key)

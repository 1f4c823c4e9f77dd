"""Secrets of a user's own server: from files or the environment, and never on a command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.net.login import LoginVariables, authorization, name_and_password, server_address

VARIABLES = LoginVariables("X_USERNAME", "X_PASSWORD", "X_PASSWORD_FILE")


def test_a_login_is_put_together_from_options_and_environment(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("  secret\n")
    assert name_and_password("me", file, {}, VARIABLES) == ("me", "secret")
    assert name_and_password(None, file, {"X_USERNAME": "she"}, VARIABLES) == ("she", "secret")
    assert name_and_password(None, None, {"X_USERNAME": "me", "X_PASSWORD_FILE": str(file)}, VARIABLES) == (
        "me",
        "secret",
    )
    assert name_and_password(None, None, {}, VARIABLES) == ("", "")


def test_half_of_a_login_names_the_other_half() -> None:
    for environ, says in (
        ({"X_USERNAME": "me"}, "X_PASSWORD is not set, nor --password-file"),
        ({"X_PASSWORD": "secret"}, "X_USERNAME is not set, nor --username"),
    ):
        with pytest.raises(ConfigError, match=says) as caught:
            name_and_password(None, None, environ, VARIABLES)
        assert "secret" not in str(caught.value)


def test_clear_text_is_for_this_machine_alone() -> None:
    assert authorization("--url", "http://127.0.0.1:1", "", "me", "x")
    assert authorization("--url", "https://node1", "token", "", "") == {"Authorization": "Bearer token"}
    assert authorization("--url", "http://node1", "", "", "") == {}
    with pytest.raises(ConfigError, match="--url: over http the login"):
        authorization("--url", "http://node1", "", "me", "x")


def test_the_path_of_an_address_is_kept_apart() -> None:
    assert server_address("https://proxy:1/a/b/", "--url", "http://x", "--y") == ("https://proxy:1", "/a/b")

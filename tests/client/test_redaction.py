"""A mistake around `redact-command` tells nothing: only a clear "no" lets the arguments be stored."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from carbonmon.client import choices, join_run, launcher
from carbonmon.client.protocol import encode

SECRET = "--token=hf_secret"


def sent(environ: dict[str, str], **arguments: object) -> str:
    """What the monitor hears of a process that takes part with these choices."""
    texts = {choice.option.name: choice.text for choice in choices.of_track(arguments, environ)}
    return encode(join_run._message(texts, launcher.read_launch({}), {})).decode()


@pytest.fixture(autouse=True)
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(join_run, "_command", lambda: ["python", "train.py", SECRET])
    monkeypatch.setattr(choices, "warn_once", lambda key, *words: logging.getLogger("test").warning(*words))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", ["1", "true", "YES", " on ", "yse", "ture", "2", "enabled"])
def test_what_is_not_clearly_no_keeps_the_arguments_to_itself(text: str):
    told = sent({"CARBONMON_REDACT_COMMAND": text})
    assert SECRET not in told
    assert '"name": "train"' in told, "the run still has a name"


def test_a_module_has_its_own_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(join_run, "_command", lambda: ["python", "-m", "finetune", SECRET])
    assert '"name": "finetune"' in sent({"CARBONMON_REDACT_COMMAND": "1"})


@pytest.mark.parametrize("text", ["0", "false", "No", "off", " ", ""])
def test_a_clear_no_tells_them(text: str):
    assert SECRET in sent({"CARBONMON_REDACT_COMMAND": text})


@pytest.mark.parametrize(
    "text",
    [
        "redact-command = true",
        "redact_command = true",
        'redact-command = "yes please"',
        "[run]\nredact-command = true",
        "[a.b.c]\nredact_command = true",
        "redact-command = true\nname =",
        "redact-command",
    ],
)
def test_a_file_keeps_them_wherever_it_says_so_and_where_it_cannot_be_read(tmp_path: Path, text: str):
    (tmp_path / "carbonmon.toml").write_text(text)
    assert SECRET not in sent({})


@pytest.mark.parametrize("text", ["redact-command = false", "name = 'redact-command'", "[other]\nx = 1", ""])
def test_a_file_that_does_not_ask_for_it_changes_nothing(tmp_path: Path, text: str):
    (tmp_path / "carbonmon.toml").write_text(text)
    assert SECRET in sent({})

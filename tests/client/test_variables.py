"""The CARBONMON_ variables: which mean something, and which only look like it."""

from __future__ import annotations

import os
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import carbonmon_exporters
import click
import pytest

import carbonmon
from carbonmon.cli import run
from carbonmon.client import variables
from carbonmon.client.protocol import RUN_VARIABLE, SEEN_VARIABLE
from carbonmon.core.ways import OPTIONS
from tests.support.rows import for_each_row

ROOTS = [Path(str(package.__file__)).parent for package in (carbonmon, carbonmon_exporters)]


def test_every_variable_of_the_source_is_known():
    text = "".join(path.read_text() for root in ROOTS for path in root.rglob("*.py"))
    known = {option.variable for option in OPTIONS.values()} | set(variables.OTHERS)
    found = set(re.findall(r"\bCARBONMON_[A-Z_]*[A-Z]\b", text))
    examples = {"CARBONMON_BMC_HOST", "CARBONMON_MYGRID_TOKEN", "CARBONMON_NAME_URL"}
    assert found - known - examples == set()
    assert set(variables.OTHERS) <= found


@for_each_row(
    ("name", "meant"),
    [
        ("CARBONMON_REGOIN", "CARBONMON_REGION"),
        ("CARBONMON_LABELS", "CARBONMON_LABEL"),
        ("CARBONMON_RUNID", "CARBONMON_RUN_ID"),
        ("CARBONMON_ELECTRICITYMAP_TOKEN", "CARBONMON_ELECTRICITYMAPS_TOKEN"),
        ("CARBONMON_SOKET", None),
        ("CARBONMON_BMC_HOST", None),
        ("CARBONMON_REGION", None),
        ("CARBONMON_SOCKET", None),
        ("CARBON_REGOIN", None),
        ("CARBONMON_region", "CARBONMON_REGION"),
        ("carbonmon_region", "CARBONMON_REGION"),
        ("CARBONMON_Regoin", "CARBONMON_REGION"),
        ("carbonmon_off", "CARBONMON_OFF"),
        ("carbonmon_regoin", None),
        ("CARBONMON_socket", None),
    ],
)
def test_a_misspelt_variable_is_told_with_the_nearest_name(name: str, meant: str | None):
    lines = variables.misspelt({name: "x", "HOME": "/"})
    assert lines == ([f"{name} is no variable of carbonmon: did you mean {meant}?"] if meant else [])


@pytest.mark.parametrize("name", ["CARBONMON_START", "CARBONMON_WITHIN", "CARBONMON_for"])
def test_an_option_without_a_variable_is_told(name: str):
    option = name.partition("_")[2].lower()
    (line,) = variables.misspelt({name: "x"})
    assert line == f"{name} is no variable of carbonmon: --{option} stands on the command line only"


def test_the_options_of_a_run_have_variables_but_for_those_that_are_told():
    without = {
        param.name for param in run.command.params if isinstance(param, click.Option) and not param.envvar
    }
    assert {option.lower() for option in variables.ONLY_OPTIONS} == {
        "for" if name == "run_h" else str(name).removesuffix("_h") for name in without
    }


def test_a_variable_of_an_installed_plug_in_is_not_taken_for_a_mistake(monkeypatch: pytest.MonkeyPatch):
    environ = {"CARBONMON_ELECTRICITYMAP_TOKEN": "x"}
    entry = EntryPoint("electricitymap", "x:y", "carbonmon.grid")
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [entry] * (group == "carbonmon.grid")
    )
    assert variables.misspelt(environ) == []


def test_the_file_of_options_is_that_of_the_folder_else_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert variables.config_file(environ) is None
    (tmp_path / "config" / "carbonmon").mkdir(parents=True)
    own = tmp_path / "config" / "carbonmon" / "carbonmon.toml"
    own.touch()
    assert variables.config_file(environ) == str(own)
    (tmp_path / "carbonmon.toml").touch()
    assert variables.config_file(environ) == "carbonmon.toml"
    assert variables.config_file({**environ, "CARBONMON_CONFIG": "/other.toml"}) == "/other.toml"


def test_the_mark_of_an_environment_changes_with_its_options_and_file_and_with_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "CARBONMON_REGION": "FR"}
    seen = {**environ, RUN_VARIABLE: "outer", SEEN_VARIABLE: variables.mark(environ)}
    assert variables.are_seen(seen)
    assert variables.are_seen(seen | {"PATH": "/bin", "CARBONMON_SOCKET": "/x"})
    assert not variables.are_seen(seen | {"CARBONMON_REGION": "DE"})
    assert not variables.are_seen(seen | {"CARBONMON_PUE": "2"})
    assert not variables.are_seen(environ)
    (tmp_path / "carbonmon.toml").touch()
    assert not variables.are_seen(seen)


@pytest.mark.parametrize(
    ("mode", "owner", "reason"),
    [
        (0o644, None, ""),
        (0o600, None, ""),
        (0o666, None, "every user may write into it"),
        (0o664, (-1, 54321), "group 54321 may write into it"),
        (0o644, (54321, 54321), "it belongs to user 54321"),
    ],
)
def test_a_file_of_options_in_the_working_folder_counts_only_if_others_cannot_have_written_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: tuple[int, int] | None, reason: str
):
    if owner and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / variables.CONFIG_NAME
    path.write_text('region = "FR"\n')
    path.chmod(mode)
    if owner:
        os.chown(path, *owner)
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "none")}
    assert variables.config_file(environ) == (None if reason else variables.CONFIG_NAME)
    lines = variables.distrusted(environ)
    assert (reason in lines[0]) if reason else not lines
    assert variables.config_file({variables.CONFIG_VARIABLE: str(path)}) == str(path), "it was named"

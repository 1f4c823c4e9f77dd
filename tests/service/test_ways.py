"""Every option on every way into a run is followed or told, as the table of `core.ways` has it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from carbonmon.cli import log, options, run
from carbonmon.client import connection, rendezvous
from carbonmon.client.protocol import SEEN_VARIABLE
from carbonmon.client.track import track
from carbonmon.client.variables import mark
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.ways import FIRST, NOTHING, OPTIONS, OUTCOMES, OWN, REFUSED, SAID, WAYS, outcome
from carbonmon.service import settings
from carbonmon.service.registry import Entry
from carbonmon.service.socket.operations import Operations
from tests.support.rows import for_each_row
from tests.support.ways import Entered, Node, config_in

VALUES = {
    "region": "FR",
    "intensity": "56",
    "intensity-file": "/times.csv",
    "grid": "uk,rte",
    "pue": "1.4",
    "wue": "2",
    "price": "0.2",
    "price-file": "/prices.csv",
    "currency": "EUR",
    "host": "other",
    "user-names": "true",
    "targets": "/targets",
    "web-config": "/web.yml",
    "interval": "3",
    "checkpoint": "7",
    "listen": "127.0.0.1:4321",
    "output": "/elsewhere",
    "run-id": "chosen",
    "resume": "earlier",
    "attach": "4242",
    "redact-command": "true",
    "name": "mine",
    "label": "team=vision",
    "gpus": "1",
    "gpu-model": "H100",
    "gpu-tdp": "333",
    "cpu-model": "Xeon",
    "cpu-tdp": "222",
    "idle": "none",
    "budget": "2kWh",
    "on-budget": "stop",
    "by": "forecast",
    "status-line": "true",
    "pause-above": "300",
    "own-monitor": "true",
    "retain": "60",
    "no-dram-estimate": "true",
    "sysfs": "/host/sys",
    "procfs": "/host/proc",
    "sensor": "nvml",
    "node-meter": "ipmi,redfish:https://bmc.example",
    "charge": "node",
    "redfish-password-file": "/password",
    "redfish-ca-file": "/ca.pem",
    "exporter": "textfile:/metrics",
    "quiet": "true",
    "log-level": "info",
    "log-format": "text",
}
"""A value of each option that is neither its default nor what the monitor of these tests uses."""

TAKEN = VALUES | {"gpus": "1 of them"}
RUN_WAYS = [way for way in WAYS if not way.startswith("track") and way != "register"]
OTHER_WAYS = [way for way in WAYS if way not in RUN_WAYS]
OLD_RUNS = ("nested", "rank", "track_inside")
"""Where the run is there already, with the command of whoever began it: no other command is kept."""
REGISTERED = ("run-id", "name", "label", "gpus", "idle")
PARAMETERS = {"name": "mine", "region": "FR", "run_id": "chosen", "labels": {"team": "vision"}}


@pytest.fixture
def node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Node]:
    for name in list(os.environ):
        if name.startswith(("CARBONMON_", "SLURM_", "PMI", "OMPI_", "TORCHELASTIC_", "CUDA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CARBONMON_DATA", "package")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(rendezvous, "NODE_SOCKET", tmp_path / "node.sock")
    monkeypatch.chdir(tmp_path)
    with ExitStack() as closing:
        yield Node(tmp_path, closing, lambda: capsys.readouterr().err)


def flag(name: str) -> str:
    return f"--{name}" if OPTIONS[name].kind == "flag" else f"--{name}={VALUES[name]}"


def in_toml(name: str) -> str:
    text = VALUES[name]
    return (
        f"{name} = {text}"
        if OPTIONS[name].kind == "flag"
        else f'{name} = ["{text}"]'
        if name == "label"
        else f'{name} = "{text}"'
    )


def check(way: str, name: str, came: Entered, shown: str) -> None:
    """That what came of an option is what the table says; `shown` is how the message must name it."""
    expected = outcome(OPTIONS[name], way)
    if expected in (SAID, FIRST, REFUSED):  # refused is a flag; a variable and the file are told
        assert came.said.count(shown) == 1
        assert came.said.count("\n") == 1, "one line"
        return
    if expected == OWN and name not in ("own-monitor", "resume", "attach"):
        assert shown in came.said, "why the daemon is not asked"
    else:
        assert shown not in came.said
    if expected == OWN or way == "alone":
        assert came.run is None or came.alone is not None, "the daemon has no such run"
    if expected == NOTHING:
        return
    of_run = OPTIONS[name].belongs_to in ("run", "command") and came.run is not None
    texts = came.run if of_run or came.alone is None else came.alone
    if name == "output" and came.alone is None:
        assert came.is_copied
    elif texts is not None and name in texts and not (way in OLD_RUNS and name == "redact-command"):
        wanted = VALUES if texts is came.alone else TAKEN
        assert (texts[name] or "").replace("\n", " ") == wanted[name]


def test_the_table_has_every_option():
    assert OPTIONS.keys() == options.NAMES
    assert VALUES.keys() == {name for name, option in OPTIONS.items() if option.belongs_to != "place"}
    for name, way in itertools.product(VALUES, WAYS):
        assert outcome(OPTIONS[name], way) in OUTCOMES


@for_each_row(("way", "name"), list(itertools.product(RUN_WAYS, options.RUN_OPTIONS)))
def test_a_flag_is_followed_or_told(node: Node, way: str, name: str):
    with node.way(way) as entering:
        if outcome(OPTIONS[name], way) == REFUSED:
            with pytest.raises(ConfigError, match=f"--{name} {VALUES[name]}: the monitor at "):
                entering.enter([flag(name)])
            return
        check(way, name, entering.enter([flag(name)]), flag(name).replace("=", " ", 1))


@for_each_row(("way", "name"), list(itertools.product(["socket", *OTHER_WAYS], options.RUN_OPTIONS)))
def test_a_variable_is_followed_or_told(node: Node, way: str, name: str):
    variable = OPTIONS[name].variable
    with node.way(way, {variable: VALUES[name]}) as entering:
        check(way, name, entering.enter(), f"{variable}={VALUES[name]}")


@for_each_row(("way", "name"), list(itertools.product(["socket", "track_inside"], options.RUN_OPTIONS)))
def test_a_key_of_the_file_is_followed_or_told(node: Node, way: str, name: str):
    with node.way(way, toml=in_toml(name)) as entering:
        check(way, name, entering.enter(), f"carbonmon.toml: {name} = {VALUES[name]}")


@for_each_row(("way", "parameter"), list(itertools.product(OTHER_WAYS[:-1], PARAMETERS)))
def test_a_parameter_of_track_is_followed_or_told(node: Node, way: str, parameter: str):
    name = {"run_id": "run-id", "labels": "label"}.get(parameter, parameter)
    value = PARAMETERS[parameter]
    with node.way(way) as entering:
        check(way, name, entering.enter(**{parameter: value}), f"track({parameter}={value!r})")


@for_each_row("name", REGISTERED)
def test_a_flag_of_register_is_followed(node: Node, name: str):
    with node.way("register") as entering:
        check("register", name, entering.enter([flag(name)]), flag(name).replace("=", " ", 1))


SETTINGS = [name for name in options.RUN_OPTIONS if OPTIONS[name].belongs_to == "monitor"]


@for_each_row(("way", "name"), list(itertools.product(("socket", "daemon", "nested"), SETTINGS)))
def test_what_the_monitor_does_anyway_is_not_told_and_needs_no_other_monitor(node: Node, way: str, name: str):
    with node.way(way) as entering:
        with run.command.make_context("run", [flag(name), "--", "true"]) as ctx:
            node.registry.config = config_in(ctx)._replace(output=node.registry.config.output)
        came = entering.enter([flag(name)])
        assert came.run is not None
        assert came.said == ""


def test_what_the_command_of_the_run_has_seen_is_not_told_again(node: Node):
    """The flag of the outer command went before its own variable; a process inside of it has the same one."""
    with node.way("nested", {"CARBONMON_REGION": "FR"}) as entering:
        os.environ[SEEN_VARIABLE] = mark(os.environ)
        assert entering.enter().said == ""
        os.environ["CARBONMON_REGION"] = "PL"
        assert "CARBONMON_REGION=PL (it uses DE)" in entering.enter().said
        os.environ["CARBONMON_REGION"] = "FR"
        os.environ["CARBONMON_RUN"] = "of-another-node"
        assert "CARBONMON_REGION=FR (it uses DE)" in entering.enter().said, "that was another run's command"
        del os.environ[SEEN_VARIABLE]


@for_each_row(
    ("words", "said"),
    [
        (["--name=outer", "--label=a=b"], ""),
        (["--run-id=outer"], ""),
        (["--label=a=c"], "--label a=c (a run keeps the labels that it began with)"),
        (["--run-id=x", "--pue=1.0"], "--run-id x (it is outer)"),
        (["--intensity=50"], "--intensity 50 (it uses --region DE)"),
        (["--exporter=otlp:http://me:secret@x"], "--exporter otlp:http://…@x (it uses summary)"),
    ],
)
def test_only_what_differs_from_the_run_is_told(node: Node, words: list[str], said: str):
    with node.way("nested", begun={"labels": {"a": "b"}}) as entering:
        came = entering.enter(words).said
    assert said in came
    assert "secret" not in came
    assert came.count("(") == (1 if said else 0)


@for_each_row("way", ["alone", "socket", "track", "track_inside", "register"])
def test_a_misspelt_variable_is_told(node: Node, way: str):
    with node.way(way, {"CARBONMON_REGOIN": "FR"}) as entering:
        connection._warned.clear()
        said = entering.enter().said
    assert said.count("CARBONMON_REGOIN is no variable of carbonmon: did you mean CARBONMON_REGION?") == 1


def test_an_id_that_an_earlier_run_of_the_daemon_has_is_told(node: Node):
    with node.way("socket") as entering:
        assert entering.enter(["--run-id=chosen"]).said == ""
        said = entering.enter(["--run-id=chosen"]).said
    assert "--run-id chosen (it is chosen-2, as that id is taken or not valid)" in said


def test_a_monitor_of_an_earlier_release_does_not_say_what_it_follows(
    node: Node, monkeypatch: pytest.MonkeyPatch
):
    def fields(self: Operations, entry: Entry, *, begun: bool) -> dict[str, str]:
        return {"run_id": entry.run_id, "folder": str(entry.plan.folder)}

    monkeypatch.setattr(Operations, "_run_fields", fields)
    monkeypatch.setattr(Operations, "_settings", lambda self, *_: self.handle(*_))
    with node.way("socket") as entering:
        said = entering.enter(["--region=FR", "--name=mine"]).said
    assert "does not say which of these it follows: --region FR, --name mine" in said


def test_a_named_monitor_that_is_not_there_is_told(node: Node):
    with node.way("socket") as entering:
        os.environ["CARBONMON_SOCKET"] = "/nowhere.sock"
        came = entering.enter()
    assert came.alone is not None
    assert "CARBONMON_SOCKET=/nowhere.sock: no monitor there" in came.said


def test_a_block_inside_of_another_in_one_process_names_what_it_cannot_change(node: Node):
    with node.way("track_daemon"):
        log.set_up_log("warning", "text")
        with track("outer", region="DE", labels={"a": 1}):
            node.heard()
            for _ in range(2):
                with track("inner", region="FR", labels={"a": 1}):
                    pass
    said = node.heard()
    assert "track(name='inner') (it has outer)" in said
    assert "track(region='FR') (it uses DE)" in said
    assert said.count("\n") == 1, "once"
    assert "labels" not in said


def test_another_user_is_not_told_the_addresses_of_exporters():
    told = settings.told(Config(exporters=("summary", "pushgateway:http://me:secret@x")))
    assert settings.told_to_others(told)["exporter"] == "summary,pushgateway:…"
    assert settings.told_to_others(told)["region"] is None

"""What a process has chosen for its run, and which of it the monitor of another process does not follow.

Imported by the training process: standard library only. The rules are those of `core.ways`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from carbonmon.client.connection import MonitorConnection, Refused, warn_once
from carbonmon.client.protocol import ProtocolError
from carbonmon.client.variables import are_seen, config_file, distrusted, misspelt
from carbonmon.core.errors import ConfigError
from carbonmon.core.ways import OPTIONS, Choice, Option, displaced, in_force, is_same, is_true, shown

REDACT = "redact-command"
"""The option that keeps a secret: a mistake around it must not tell the secret."""

SETTINGS_S = 2.0
"""How long a run waits for what its monitor says of itself."""

log = logging.getLogger("carbonmon")

_told: set[str] = set()

Settings = Mapping[str, str | None]


def choose(option: Option, value: object, source: str) -> Choice:
    """A choice of a value of the environment, a TOML file or `track`; `source` is how a message begins it."""
    text = _text(option, value)
    return Choice(option, text, source + shown(text).replace("\n", " "))


def from_environment(environ: Mapping[str, str], nearer: Collection[str] = ()) -> list[Choice]:
    """The options in a process's environment and TOML file; `nearer` were given with the call itself.

    Where the file cannot be read, one warning says so: a monitor that is started says more.
    """
    given = {
        name: choose(option, environ[option.variable], f"{option.variable}=")
        for name, option in OPTIONS.items()
        if environ.get(option.variable) and name not in nearer
    }
    places = {**dict.fromkeys(given, 1), **dict.fromkeys(nearer, 2)}
    path = config_file(environ)
    if path is not None:
        from carbonmon.core.documents import read_toml

        try:
            table = {key.replace("_", "-"): value for key, value in read_toml(Path(path)).items()}
        except ConfigError as error:
            warn_once("file", "carbonmon takes no options from a file: %s", error)
            table = {REDACT: True}  # nobody knows what it was to say
        for name in table.keys() & OPTIONS.keys() - places.keys():
            given[name] = choose(OPTIONS[name], table[name], f"{Path(path).name}: {name} = ")
            places[name] = 0
        if REDACT not in given and _has_below(table, REDACT):
            given[REDACT] = choose(OPTIONS[REDACT], True, f"{Path(path).name}: {REDACT} = ")
    weaker = displaced(places)
    return [choice for name, choice in given.items() if name not in weaker]


def _has_below(table: Mapping[str, object], name: str) -> bool:
    """Whether a table of a table has such a key: it is in the wrong place, but somebody meant it."""
    left = [value for value in table.values() if isinstance(value, dict)]
    while left:
        each = left.pop()
        if any(key.replace("_", "-") == name for key in each):
            return True
        left += [value for value in each.values() if isinstance(value, dict)]
    return False


def of_track(arguments: Mapping[str, object], environ: Mapping[str, str]) -> list[Choice]:
    """The options that `track` was given, by its parameters, and those of the environment beside them."""
    if not are_seen(environ):
        for line in (*misspelt(environ), *distrusted(environ)):
            warn_once(line, "%s", line)
    given = of_arguments(arguments)
    names = {choice.option.name for choice in given}
    others = from_environment(environ, names)
    return [*given, *(choice for choice in others if choice.option.name not in names)]


def of_arguments(arguments: Mapping[str, object]) -> list[Choice]:
    """The parameters of `track` that were given."""
    names = {parameter: OPTIONS[parameter.replace("_", "-").removesuffix("s")] for parameter in arguments}
    return [
        Choice(
            names[parameter],
            _text(names[parameter], value),
            f"track({parameter}={value!r})",
            is_argument=True,
        )
        for parameter, value in arguments.items()
        if value is not None
    ]


def labels_in(text: str) -> dict[str, str]:
    """The labels of a choice, by name."""
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key: value for key, _, value in pairs}


def settings_of(connection: MonitorConnection) -> Settings | None:
    """The options of a monitor; None if it does not say, as one of an earlier release."""
    try:
        found = connection.request({"op": "settings"}, SETTINGS_S).get("settings")
    except (OSError, Refused, ProtocolError):
        return None
    return found if isinstance(found, dict) else None


def other_settings(choices: Sequence[Choice], settings: Settings) -> list[str]:
    """The choices that only the monitor could follow, and does not, each with what it uses."""
    return [
        f"{choice.shown} ({in_force(choice.option, settings)})"
        for choice in choices
        if choice.option.belongs_to == "monitor"
        and not is_same(choice.option, choice.text, settings.get(choice.option.name))
    ]


def unfollowed(
    connection: MonitorConnection,
    answer: Mapping[str, Any],
    choices: Sequence[Choice],
    *,
    is_inside: bool,
    is_copied: bool = False,
) -> str | None:
    """One line that names the choices which a run that was joined does not follow; None if it follows all.

    `answer` is the monitor's to the join. `is_inside`: the process was in this run already, whose command has
    seen the environment. `is_copied`: the summary will be copied to the output that was chosen.
    """
    begun = answer.get("begun")
    if is_inside and not begun and are_seen(os.environ):
        choices = [choice for choice in choices if choice.is_argument]
    left = [choice for choice in choices if not (is_copied and choice.option.belongs_to == "output")]
    left = [
        choice
        for choice in left
        if choice.option.belongs_to in ("monitor", "run", "output", "own", "job", "budget", "pause")
    ]
    if not left:
        return None
    needs_settings = any(
        choice.option.belongs_to in ("monitor", "output") or choice.option.name == "gpus" for choice in left
    )
    settings = settings_of(connection) if needs_settings and begun is not None else {}
    if begun is None or settings is None:
        names = ", ".join(choice.shown for choice in left)
        return f"the monitor at {connection.path} does not say which of these it follows: {names}"
    lines = other_settings(left, settings)
    for choice in left:
        found = _in_run(choice, answer, settings, is_inside)
        if found is not None:
            lines.append(f"{choice.shown} ({found})")
    if not lines:
        return None
    if begun:
        why = f"the monitor at {connection.path} has its own options"
        mend = "set them for that monitor, or take one of your own: --own-monitor (CARBONMON_OWN_MONITOR=1)"
    else:
        why = f"run {answer.get('run_id')} has begun already"
        mend = "give these to what begins the run"
    return f"not followed, as {why}: {', '.join(lines)}; {mend}"


def tell(
    connection: MonitorConnection, answer: Mapping[str, Any], choices: Sequence[Choice], *, is_inside: bool
) -> None:
    """Warn once in this process of choices that a run which was joined does not follow."""
    key = " ".join(choice.shown for choice in choices)
    if key and key not in _told:
        _told.add(key)
        line = unfollowed(connection, answer, choices, is_inside=is_inside)
        if line is not None:
            log.warning("carbonmon: %s", line)


def _in_run(choice: Choice, answer: Mapping[str, Any], settings: Settings, is_inside: bool) -> str | None:
    """What the run has instead of a choice; None where it has just that."""
    option, text = choice.option, choice.text
    is_new = bool(answer.get("begun"))
    if option.name == "gpus":
        return _gpus_in_run(text, answer, settings, is_inside)
    if option.name == "run-id":
        run_id = str(answer.get("run_id"))
        why = ", as that id is taken or not valid" if is_new else ""
        return None if text == run_id else f"it is {run_id}{why}"
    if option.belongs_to == "output":
        same = is_same(option, text, settings.get(option.name))
        return None if same else f"it is kept in {answer.get('folder')}"
    if option.belongs_to == "own":
        return "it has one already" if is_true(text) else None
    if option.belongs_to == "job":
        return "carbonmon run does that"
    if option.belongs_to == "budget":
        return "only a run's own carbonmon run acts on budgets"
    if option.belongs_to == "pause":
        return "only a run's own carbonmon run pauses its job"
    if option.belongs_to != "run" or is_new:
        return None
    if option.name == "label":
        labels = answer.get("labels") or {}
        same = all(labels.get(key) == value for key, value in labels_in(text).items())
        return None if same else "a run keeps the labels that it began with"
    value = str(answer.get(option.name))
    return None if text == value else f"it has {value}"


def _gpus_in_run(text: str, answer: Mapping[str, Any], settings: Settings, is_inside: bool) -> str | None:
    """GPUs can be added to those of a run, as each rank does; a process inside of it cannot choose others."""
    metered = settings.get("gpus")
    if metered is not None and not is_same(OPTIONS["gpus"], text, metered):
        has_all = set(text.replace(" ", "").split(",")) <= set(metered.split(","))
        if is_inside or not has_all:
            return f"it uses {metered or 'none'}"
    elif metered is None and not answer.get("begun") and (is_inside or not answer.get("gpus")):
        return "it has those that its processes use"
    return None


def _text(option: Option, value: object) -> str:
    """A value as text: labels on a line each, a path from the root."""
    if option.kind == "labels" and isinstance(value, str):
        value = value.split()
    if isinstance(value, dict):
        value = [f"{key}={text}" for key, text in value.items()]
    if isinstance(value, (list, tuple)):
        return ("\n" if option.kind == "labels" else ",").join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    if option.kind == "path":
        from carbonmon.core.files import absolute

        return str(absolute(Path(str(value))))
    return str(value)

"""What was probably meant by a word that a command does not take; loaded only where there is such a word."""

from __future__ import annotations

from collections.abc import Mapping

import click

from carbonmon.core.hints import meant

COMMANDS = {
    "help": "carbonmon --help",
    "version": "carbonmon --version",
    "list": "carbonmon runs",
    "ls": "carbonmon runs",
    "history": "carbonmon runs",
    "show": "carbonmon report",
    "summary": "carbonmon report",
    "last": "carbonmon report last",
    "export": "carbonmon report --format csv",
    "plot": "carbonmon report --format csv --series",
    "start": "carbonmon run -- COMMAND, or carbonmon daemon",
    "monitor": "carbonmon run -- COMMAND",
    "measure": "carbonmon run -- COMMAND",
    "track": "carbonmon run -- COMMAND; in Python: carbonmon.track()",
    "exec": "carbonmon run -- COMMAND",
    "init": "carbonmon run -- COMMAND; nothing has to be set up before",
    "login": "carbonmon run -- COMMAND; there is no account",
    "config": "carbonmon run --help; each option is also a key of carbonmon.toml",
    "watch": "carbonmon top",
    "live": "carbonmon top",
    "stop": "carbonmon daemon --stop, or carbonmon unregister RUN_ID",
    "check": "carbonmon doctor",
    "status": "carbonmon doctor; of a daemon: carbonmon daemon --status",
    "gpus": "carbonmon doctor",
    "sensors": "carbonmon doctor",
    "clean": "carbonmon runs prune",
    "prune": "carbonmon runs prune",
    "delete": "carbonmon runs prune",
    "diff": "carbonmon compare",
    "predict": "carbonmon estimate",
    "install": "pip install carbonmon",
    "upgrade": "pip install --upgrade carbonmon",
    "update": "pip install --upgrade carbonmon; newer tables: carbonmon data update",
}
"""What people type for a command that has another name, or is none."""

RUNS_COMMANDS = {
    **dict.fromkeys(("list", "ls", "show", "all"), "carbonmon runs, without a word behind it"),
    **dict.fromkeys(("rm", "delete", "remove", "clean"), "carbonmon runs prune"),
}

OPTIONS = (
    ("-V -v", "version", "--version"),
    ("-v --verbose --debug", "log_level", "--log-level info, or debug"),
    ("-r -z --zone --country --location --place --country-iso-code", "region", "--region FR"),
    ("-o --out --output-dir --dir --folder", "output", "--output DIR"),
    ("-q --silent", "quiet", "--quiet"),
    ("-p --port", "listen", "--listen 127.0.0.1:PORT"),
    ("-g --gpu --gpu-ids --gpu-count --devices", "gpus", "--gpus 0,1"),
    ("-n --project --project-name --experiment", "name", "--name NAME"),
    ("-l --tag --tags --labels", "label", "--label KEY=VALUE"),
    ("-p --pid", "attach", "--attach PID"),
    ("--carbon-intensity --co2", "intensity", "--intensity G_PER_KWH"),
    ("-i --period --frequency --measure-power-secs", "interval", "--interval SECONDS"),
    ("-c --config-file", "config", "--config FILE"),
    ("--json --csv --markdown --html --text", "form", "--format {}"),
)
"""Options that other programs have, the parameter of ours that does it, and how that is written."""

_ALONE = {
    ("phase", "--name"): "carbonmon phase NAME",
    ("unregister", "--run-id"): "carbonmon unregister RUN_ID",
    ("estimate", "--gpus"): "--gpu NAME:COUNT",
    ("top", "--once"): "carbonmon top | cat, which is one frame",
    ("compare", "--versus"): "carbonmon compare --rounds N -- COMMAND --versus COMMAND",
}
"""What stands without its option, or elsewhere: by command and option."""

_NO_COMMAND, _EXTRA = "No such command", "Got unexpected extra argument"
"""How click begins errors that have no class of their own."""


def command_meant(word: str, commands: Mapping[str, str]) -> str:
    """What was meant by a word that is no command of carbonmon."""
    from shutil import which

    if word == "carbonmon":
        return "leave the second 'carbonmon' out"
    if word in COMMANDS:
        return f"use: {COMMANDS[word]}"
    if word.endswith(".py") or " " in word or which(word):
        job = f"python {word} …" if word.endswith(".py") and " " not in word else word
        return f"to meter a job: carbonmon run -- {job}"
    return meant(word, commands)


def mended(error: click.ClickException) -> str | None:
    """The message of one of click's own errors, with what was meant; None where nothing is to be mended."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        return _option(error.option_name, error.ctx)
    if isinstance(error, click.MissingParameter):
        return _missing(error)
    if isinstance(error, click.BadParameter):
        return _value(error)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        if error.message.startswith(_EXTRA):
            return _extra(error.message, error.ctx)
        if error.message.startswith(_NO_COMMAND):
            return _subcommand(error.message, error.ctx)
    return None


def _option(name: str, ctx: click.Context) -> str:
    """What to give in place of an option that the command does not have."""
    command = ctx.command.name or ""
    no_such = f"there is no option {name!r}"
    if (command, name) in _ALONE:
        return f"{no_such} here; use: {_ALONE[command, name]}"
    if name.lstrip("-") in ("run", "daemon", "report", "runs", "doctor") and ctx.parent is None:
        return f"{no_such}; use: carbonmon {name.lstrip('-')}"
    known = {param.name: param.type for param in ctx.command.params}
    for names, parameter, instead in OPTIONS:
        word, kind = name.lstrip("-"), known.get(parameter)
        if name in names.split() and kind and (parameter != "form" or word in getattr(kind, "choices", ())):
            return f"{no_such}; use: {instead.format(word)}"
    near = meant(name, [opt for param in ctx.command.params for opt in param.opts if opt.startswith("--")])
    return f"{no_such}; {near}" if near.startswith("did") else f"{no_such}; see {ctx.command_path} --help"


def _extra(message: str, ctx: click.Context) -> str:
    """What to do with a word that a command does not take: it may be an option without its hyphens."""
    word = message.partition("(")[2].rstrip(")").partition(" ")[0]
    for param in ctx.command.params:
        if f"--{word}" in param.opts:
            return f"{ctx.command_path} has no word {word!r}; use: {ctx.command_path} --{word}"
    return f"{message}: {ctx.command_path} takes options only; see its --help"


def _missing(error: click.MissingParameter) -> str:
    """What a command needs, and what that is."""
    param = error.param
    if isinstance(param, click.Option):
        return f"{param.opts[0]} {param.metavar or ''} is missing: {(param.help or '').rstrip('.')}"
    if param is not None and error.ctx is not None:
        usage = param.metavar or param.human_readable_name
        what = "name a RUN: its folder, its id, its name, or last: " if "RUN" in usage else "give "
        return f"{what}{error.ctx.command_path} {usage}"
    return error.format_message()


def _value(error: click.BadParameter) -> str:
    """An error of a value as ours are: the variable that gave it, the option, and what fits."""
    from carbonmon.cli.checked import variable_of

    param = error.param
    if not isinstance(param, click.Option):
        return error.format_message()
    where = f"{variable_of(param, error.ctx)}{param.opts[0]}"
    text = error.message.rstrip(".")
    if isinstance(param.type, click.IntRange):
        low, high = param.type.min, param.type.max
        span = f"of at least {low}" if high is None else f"from {low} to {high}"
        given = text.partition(" is not ")[0].strip("'")
        return f"{where}: {given!r:.40} is not a whole number {span}: {param.opts[0]} {param.metavar}"
    if isinstance(param.type, click.Choice):
        given = text.partition(" is not ")[0].strip("'")
        words = [str(word) for word in param.type.choices]
        near = meant(given.lower(), words)
        hint = f"; {near}" if near.startswith("did") else ""
        return f"{where}: {given!r:.40} is {'not' if len(words) == 1 else 'none of'} {', '.join(words)}{hint}"
    if param.is_flag:
        return f"{where}: {text.partition(' is not ')[0]} is neither yes nor no: give 1 or 0"
    return f"{where}: {text}"


def _subcommand(message: str, ctx: click.Context) -> str | None:
    """What was meant by a word behind `carbonmon runs`."""
    group, parts = ctx.command, message.split("'")
    if group.name != "runs" or not isinstance(group, click.Group) or len(parts) < 3:
        return None
    word = parts[1]
    near = meant(word, group.commands)
    if word in RUNS_COMMANDS:
        instead = f"use: {RUNS_COMMANDS[word]}"
    elif near.startswith("did"):
        instead = near
    else:
        instead = f"for one run: carbonmon report {word:.64}; to meter a job: carbonmon run -- {word:.64}"
    return f"carbonmon runs has no command {word!r:.64}; {instead}"

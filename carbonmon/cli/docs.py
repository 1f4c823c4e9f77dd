"""Prints docs/use/command-line.md: `python -m carbonmon.cli.docs`. A test fails when the page is stale."""

from __future__ import annotations

import click

from carbonmon.cli import main
from carbonmon.cli.options import RUN_OPTIONS
from carbonmon.core.ways import OPTIONS, OUTCOMES, WAYS, outcome

HEAD = """# The command line

Generated from the commands themselves: `python -m carbonmon.cli.docs > docs/use/command-line.md`.

Every option that commands share is also an environment variable and a key of the TOML file (`--config`, else
`./carbonmon.toml`, else `carbonmon.toml` in the user's config folder). Flags beat the environment, which
beats the file. A mistake in an option ends the command with exit code 2 before the job starts. A variable
that is misspelt, also one in lower case, is told with the nearest name.

## Completion, and the manual page

The package installs completion for bash (4.4 and later), zsh and fish, and `carbonmon(1)`, below `share/`
of its environment. `man carbonmon` finds the page where the environment's `bin` is in `PATH`. The shells
look for completion below `/usr/share` and `/usr/local/share` only; for an environment elsewhere one of
these lines goes into the shell's start file:

```sh
# ~/.bashrc
. "$(dirname "$(realpath "$(command -v carbonmon)")")/../share/bash-completion/completions/carbonmon"
# ~/.zshrc, after compinit
eval "$(_CARBONMON_COMPLETE=zsh_source carbonmon)"
# ~/.config/fish/config.fish
_CARBONMON_COMPLETE=fish_source carbonmon | source
```

It completes commands, options, regions, GPU models, runs (`last` and the folders of the output), programs
and files.
"""

WAYS_HEAD = """## Options by way

A run may have a monitor that was there before: that of a run around it, of other ranks, of the node.
No option is ignored in silence there: no flag, no variable, no key of the file, no argument of `track()`.

Inside of a run, its command has taken the environment and the file, or has told what it could not follow;
they are looked at again if they have changed since. A run that a daemon has already under the same id is
joined, as from inside of it. `track()` and `register` take the variables and keys as well.
"""


def page() -> str:
    """The page in Markdown."""
    parts = [HEAD]
    context = click.Context(main, info_name="carbonmon")
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        if command is not None:
            parts.append(_section(name, command))
        if isinstance(command, click.Group):
            parts += [_section(f"{name} {sub.name}", sub) for sub in command.commands.values()]
    return "\n".join([*parts, _ways()])


def _ways() -> str:
    """What comes of each option of a run on each way into it: options with the same outcomes are one row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in RUN_OPTIONS:
        rows.setdefault(tuple(outcome(OPTIONS[name], way) for way in WAYS), []).append(f"`{name}`")
    lines = [WAYS_HEAD, f"| option | {' | '.join(WAYS.values())} |", "|---" * (len(WAYS) + 1) + "|"]
    lines += [f"| {', '.join(names)} | {' | '.join(outcomes)} |" for outcomes, names in rows.items()]
    return "\n".join([*lines, "", *(f"- **{word}**: {text}." for word, text in OUTCOMES.items()), ""])


def _section(name: str, command: click.Command) -> str:
    argument = next((param for param in command.params if isinstance(param, click.Argument)), None)
    usage = f"carbonmon {name} [OPTIONS]" + (
        f" {argument.make_metavar(click.Context(command))}" if argument else ""
    )
    lines = [f"## `{usage}`", "", *[line.strip() for line in (command.help or "").strip().splitlines()], ""]
    options = [param for param in command.params if isinstance(param, click.Option)]
    if options:
        lines += ["| option | environment and TOML key | default | meaning |", "|---|---|---|---|"]
    for param in options:
        flag = param.opts[0] + (f" {param.metavar}" if param.metavar else _choices(param))
        key = str(param.name).replace("_", "-")
        is_key = bool(param.envvar) and key != "config"
        variable = f"`{param.envvar}`, `{key}`" if is_key else f"`{param.envvar or '–'}`"
        default = f"`{param.default}`" if param.show_default else ""
        lines.append(f"| `{flag}` | {variable} | {default} | {param.help} |".replace("`–`", "–"))
    return "\n".join(lines) + "\n"


def _choices(param: click.Option) -> str:
    return f" {','.join(map(str, param.type.choices))}" if isinstance(param.type, click.Choice) else ""


if __name__ == "__main__":
    click.echo(page(), nl=False)

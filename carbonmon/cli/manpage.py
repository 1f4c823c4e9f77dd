"""Prints the manual page carbonmon(1): `python -m carbonmon.cli.manpage > share/man/man1/carbonmon.1`.

In the macros of man(7); made of the commands themselves, as docs/use/command-line.md is. A test fails when
the kept page is stale.
"""

from __future__ import annotations

import re

import click

from carbonmon.cli import grouped, main

_HEAD = """.TH CARBONMON 1 "" "carbonmon" "User Commands"
.nh
.ad l
.SH NAME
carbonmon \\- energy and carbon of training jobs, live
.SH SYNOPSIS
.B carbonmon run
[OPTIONS] \\-\\- COMMAND [ARG...]
.br
.B carbonmon
COMMAND [OPTIONS]
.SH DESCRIPTION
Reads the power of GPUs and CPUs while a job runs, integrates energy, applies the carbon intensity of the
electricity, serves Prometheus, and writes a summary. Each figure says how it was known. The job keeps its
streams, signals and exit code.
"""

_TAIL = """.SH ENVIRONMENT
Each option of
.B run
and
.B daemon
is also a variable: CARBONMON_REGION for \\-\\-region. Flags go before variables, variables before the file.
.TP
.B CARBONMON_OFF
With 1 programs run as if carbonmon were not there.
.TP
.B CARBONMON_CONFIG
The file of options, as \\-\\-config.
.SH FILES
.TP
.I ./carbonmon.toml, ~/.config/carbonmon/carbonmon.toml
Options as keys; the first one that is there counts.
.TP
.I ./carbonmon\\-runs/RUN_ID/
What is kept of a run: run.json, checkpoint.json, checkpoint\\-2.json, series.jsonl, summary.json.
.TP
.I /run/carbonmon/daemon.sock
Where the daemon of root listens for runs.
.SH EXIT STATUS
.B carbonmon run
ends with the exit code of the job, 128 + N where signal N ended it, 127 where its command is not found, 126
where it cannot be executed. All commands end with 2 for a mistake in what was typed, and with 1 where
something else stood in the way.
.SH SEE ALSO
.BR nvidia\\-smi (1),
.BR prometheus (1).
The documentation is in docs/ of the source archive.
"""


def page() -> str:
    """The page as roff, in ASCII."""
    context = click.Context(main, info_name="carbonmon")
    parts = [_HEAD]
    for title, rows in grouped():
        parts.append(f".SH {title.upper()}\n")
        for name, _ in rows:
            command = main.get_command(context, name)
            if command is not None:
                parts.append(_section(name, command, context))
            if isinstance(command, click.Group):
                inner = click.Context(command, info_name=name, parent=context)
                parts += [_section(f"{name} {sub.name}", sub, inner) for sub in command.commands.values()]
    return "".join([*parts, _TAIL])


def _section(name: str, command: click.Command, parent: click.Context) -> str:
    """One command: how it is typed, what it does, its options."""
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f".SS carbonmon {_roff(name)}", f".B carbonmon {_roff(name)}", _roff(usage), ".PP"]
    paragraphs = re.split(r"\n\s*\n", (command.help or "").replace("\b", "").strip())
    lines.append("\n.PP\n".join(_line(" ".join(text.split())) for text in paragraphs))
    for param in command.params:
        if isinstance(param, click.Option):
            lines += [".TP", _option(param, context), _line(_help(param))]
    return "\n".join(lines) + "\n"


def _option(param: click.Option, context: click.Context) -> str:
    value = "" if param.is_flag else f" \\fI{_roff(param.make_metavar(context))}\\fR"
    return ", ".join(f"\\fB{_roff(name)}\\fR" for name in param.opts) + value


def _help(param: click.Option) -> str:
    default = f" Default: {param.default}." if param.show_default and param.default is not None else ""
    variable = f" [{param.envvar}]" if isinstance(param.envvar, str) else ""
    return f"{param.help or ''}{default}{variable}"


def _line(text: str) -> str:
    """A line of text that no leading dot or apostrophe makes a request."""
    found = _roff(text)
    return f"\\&{found}" if found.startswith((".", "'")) else found


def _roff(text: str) -> str:
    """Text in which roff reads nothing else: backslashes, hyphens to be copied, characters beyond ASCII."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"[^\n -~]", lambda match: f"\\[u{ord(match[0]):04X}]", escaped)


if __name__ == "__main__":
    click.echo(page(), nl=False)

"""The command line: thin click commands over `carbonmon.service`; each is imported when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from carbonmon import __version__
from carbonmon.core.plain_text import plain_lines

_COMMANDS = {
    "run": "Monitor one training job from start to end.",
    "daemon": "Meter this node and every run on it.",
    "phase": "Set the phase of a run from a shell script.",
    "register": "Register a run with the daemon.",
    "unregister": "End a registered run.",
    "pods": "Register the pods of a Kubernetes node with the daemon.",
    "report": "Print the summary of a run, also of one whose monitor was killed.",
    "runs": "List runs, sum them up, remove old ones.",
    "compare": "Compare runs: energy, time, emissions, phase by phase.",
    "settle": "Recalculate a run's emissions with the actual grid intensity.",
    "estimate": "Energy and carbon of a job from spec sheets, without any hardware.",
    "when": "Find the greenest start within the next hours.",
    "regions": "Find a zone, a country, a cloud region, and the intensity there.",
    "data": "Check the bundled tables, or take a newer edition of their sources.",
    "doctor": "List every power source: in use, or why not and how to fix it.",
}


_MEANT = {
    "help": "carbonmon --help",
    "version": "carbonmon --version",
    "list": "carbonmon runs",
    "ls": "carbonmon runs",
    "show": "carbonmon report",
    "summary": "carbonmon report",
    "start": "carbonmon run -- COMMAND, or carbonmon daemon",
    "monitor": "carbonmon run -- COMMAND",
    "exec": "carbonmon run -- COMMAND",
    "check": "carbonmon doctor",
    "status": "carbonmon doctor",
    "clean": "carbonmon runs prune",
    "prune": "carbonmon runs prune",
    "diff": "carbonmon compare",
}
"""What people type for a command that has another name."""


_ERROR = "Error: "
"""What click writes before a message."""


class _LazyGroup(click.Group):
    """Imports a command's module when it is needed, so that none pays for another; errors are printable."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _printable_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _printable_errors():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if word not in _COMMANDS and not word.startswith("-"):
            raise click.UsageError(f"there is no command {word!r:.40}; {_instead(word)}", ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"carbonmon.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _instead(word: str) -> str:
    """What was meant by a word that is no command."""
    from shutil import which

    from carbonmon.core.hints import meant

    if word in _MEANT:
        return f"use: {_MEANT[word]}"
    if word.endswith(".py") or " " in word or which(word):
        job = f"python {word} …" if word.endswith(".py") and " " not in word else word
        return f"to meter a job: carbonmon run -- {job}"
    return meant(word, _COMMANDS)


@contextmanager
def _printable_errors() -> Iterator[None]:
    """Errors quote what somebody typed, what stands in a file, what a server said, and fit the terminal."""
    try:
        yield
    except click.ClickException as error:
        from carbonmon.cli import printing, terminal

        shown = printing.fitted(_ERROR + plain_lines(error.message), terminal.width(err=True))
        error.message = shown.removeprefix(_ERROR)  # type: ignore[misc]  # nobody has read it yet
        raise


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="carbonmon")
def main() -> None:
    """A live power and carbon monitor for training jobs.

    Put `carbonmon run --` before your command:  carbonmon run -- python train.py
    """

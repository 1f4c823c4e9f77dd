"""The command line: thin click commands over `carbonmon.service`; each is imported when it is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from carbonmon import __version__
from carbonmon.core.plain_text import plain_lines

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMANDS = {
    "run": "Monitor one training job from start to end.",
    "daemon": "Meter this node and every run on it.",
    "phase": "Set the phase of a run from a shell script.",
    "register": "Register a run with the daemon.",
    "unregister": "End a registered run.",
    "pods": "Register the pods of a Kubernetes node with the daemon.",
    "top": "Watch a run, or a node with its runs, in the terminal.",
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


_GROUPS = {
    "Measure": ("run", "phase"),
    "Look": ("top", "report", "runs", "compare"),
    "Account": ("settle", "data"),
    "Estimate": ("estimate", "when", "regions"),
    "Operate": ("doctor", "daemon", "register", "unregister", "pods"),
}
"""What one wants to do, and the commands for it."""


def grouped() -> list[tuple[str, list[tuple[str, str]]]]:
    """The commands with what they do, by what one wants to do."""
    return [
        (title, [(name, _COMMANDS[name]) for name in names if name in _COMMANDS])
        for title, names in _GROUPS.items()
    ]


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
        if word not in _COMMANDS and not word.startswith("-") and not ctx.resilient_parsing:
            from carbonmon.cli.mistakes import command_meant

            raise click.UsageError(f"there is no command {word!r:.40}; {command_meant(word, _COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"carbonmon.cli.{cmd_name}").command
        if "_CARBONMON_COMPLETE" in os.environ:  # set by click's scripts: a shell asks
            from carbonmon.cli.completion import attach

            attach(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _COMMANDS))
        for title, rows in grouped():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=text)  # none of them is imported for that
            for name, text in _COMMANDS.items()
            if name.startswith(incomplete)
        ]


@contextmanager
def _printable_errors() -> Iterator[None]:
    """Errors quote what somebody typed, what stands in a file, what a server said, and fit the terminal."""
    try:
        yield
    except click.ClickException as error:
        from carbonmon.cli import printing, terminal
        from carbonmon.cli.mistakes import mended

        text = mended(error)
        told = plain_lines(error.message if text is None else text)
        shown = printing.fitted(_ERROR + told, terminal.width(err=True)).removeprefix(_ERROR)
        if text is not None:
            ctx = error.ctx if isinstance(error, click.UsageError) else None
            raise click.UsageError(shown, ctx) from None
        error.message = shown  # type: ignore[misc]  # nobody has read it yet
        raise


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="carbonmon")
def main() -> None:
    """A live power and carbon monitor for training jobs.

    Put `carbonmon run --` before your command:

    \b
        carbonmon run -- python train.py
    """

"""The command line: thin click commands over `carbonmon.service`; each is imported when it is called."""

from __future__ import annotations

import importlib

import click

from carbonmon import __version__

_COMMANDS = {
    "run": "Monitor one training job from start to end.",
    "daemon": "Meter this node and every run on it.",
    "phase": "Name what a shell script does next.",
    "register": "Have the daemon follow a run.",
    "unregister": "End a run that the daemon follows.",
    "pods": "Have the daemon follow the pods of a Kubernetes node.",
    "report": "Print the summary of a run, also of one whose monitor was killed.",
    "settle": "Reckon a run's carbon again, with what the grid really was.",
    "estimate": "Energy and carbon of a job from spec sheets, without any hardware.",
    "when": "Find the greenest start within the next hours.",
    "regions": "Find a zone, a country, a cloud region, and the intensity there.",
    "data": "Check the bundled tables, or take a newer edition of their sources.",
    "doctor": "List every source: used, or why not and the command that mends it.",
}


class _LazyGroup(click.Group):
    """Imports a command's module when it is needed, so that none pays for another."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"carbonmon.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="carbonmon")
def main() -> None:
    """A live power and carbon monitor for training jobs.

    Put `carbonmon run --` before your command:  carbonmon run -- python train.py
    """

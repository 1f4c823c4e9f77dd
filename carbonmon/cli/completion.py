"""What may stand at a place of the command line, for the shells' completion; loaded only for that.

Values are taken from the tables and from the names of folders: no run is read and nothing is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from carbonmon.core.config import DEFAULT_OUTPUT
from carbonmon.service import plugins

MOST = 200
"""So many values are offered: a shell asks before it prints more."""

Completer = Callable[[click.Context, str], list[CompletionItem]]


def attach(command: click.Command) -> None:
    """Give the parameters of a command, and of those below it, the values that are known for them."""
    for param in command.params:
        completer = _VALUES.get(f"{command.name} {param.name}") or _VALUES.get(param.name or "")
        if completer is not None:
            param.shell_complete = completer  # type: ignore[method-assign,assignment]  # for this one object
    if isinstance(command, click.Group):
        for each in command.commands.values():
            attach(each)


def _regions(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Codes of places and of cloud regions."""
    from carbonmon.grid.annual import preferred_rows
    from carbonmon.grid.cloud_regions import cloud_code, cloud_rows

    places = ((row["zone"], row["name"]) for row in preferred_rows())
    clouds = ((cloud_code(row), row["location"]) for row in cloud_rows())
    return _items(incomplete, (*places, *clouds))


def _gpus(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Models of the table, with hyphens for spaces: shells divide words at spaces."""
    from carbonmon.data import GPUS, rows

    found = dict.fromkeys(row["model"].replace(" ", "-") for row in rows(GPUS) if "(" not in row["model"])
    return _items(incomplete, ((name, "") for name in found))


def _runs(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """`last` and the folders of the output, the newest name first; a path is the shell's."""
    if "/" in incomplete or incomplete.startswith((".", "~")):
        return [CompletionItem(incomplete, type="file")]
    output = ctx.params.get("output") or os.environ.get("CARBONMON_OUTPUT") or DEFAULT_OUTPUT
    names: list[str] = []
    with suppress(OSError):
        names = sorted((entry.name for entry in os.scandir(output) if entry.is_dir()), reverse=True)
    return _items(incomplete, (("last", "the run that began last"), *((name, "") for name in names)))


def _job(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The programs that begin so, for the first word of a job; files for the others."""
    words = ctx.params.get("job") or ()
    if not incomplete and not words:
        return [CompletionItem("--", help="the job's command follows")]
    programs = [] if words or "/" in incomplete else sorted(set(_programs(incomplete)))
    return _items(incomplete, ((name, "") for name in programs)) or [CompletionItem(incomplete, type="file")]


def _programs(begin: str) -> Iterator[str]:
    for folder in filter(None, os.environ.get("PATH", "").split(os.pathsep)):
        with suppress(OSError):
            for entry in os.scandir(folder):
                if entry.name.startswith(begin) and os.access(entry.path, os.X_OK):
                    yield entry.name


def _names(group: plugins.Group) -> Completer:
    """Names of our own plug-ins between commas, each once."""

    def complete(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        before, comma, _ = incomplete.rpartition(",")
        left = [name for name in plugins.OWN[group] if name not in before.split(",")]
        return _items(incomplete, ((f"{before}{comma}{name}", "") for name in left))

    return complete


def _files(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _items(incomplete: str, values: Iterable[tuple[str, str]]) -> list[CompletionItem]:
    """Those of (value, what it is) that begin so, whatever their capitals."""
    begin = incomplete.lower()
    found = [
        CompletionItem(value, help=text or None) for value, text in values if value.lower().startswith(begin)
    ]
    return found[:MOST]


_VALUES: dict[str, Completer] = {
    "region": _regions,
    "regions words": _regions,
    "compare words": _runs,
    "top run": _runs,
    "gpu_model": _gpus,
    "gpu": _gpus,
    "runs": _runs,
    "resume": _runs,
    "fit": _runs,
    "job": _job,
    "parts": _files,
    "grid": _names("carbonmon.grid"),
    "sensor": _names("carbonmon.sensors"),
    "exporter": _names("carbonmon.exporters"),
}
"""By the name of a parameter, behind that of its command where it means something else in others."""

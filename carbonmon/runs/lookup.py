"""The run that a word means, wherever one is asked for: a path, an id, `last`, a name, how an id begins."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from carbonmon.core.config import DEFAULT_OUTPUT
from carbonmon.core.documents import json_object
from carbonmon.core.errors import ConfigError
from carbonmon.core.files import absolute
from carbonmon.core.hints import nearest_runs
from carbonmon.core.plain_text import plain
from carbonmon.core.records import NamedTuple
from carbonmon.core.times import known_time, local_text
from carbonmon.runs.checked import RunFileError, read_bytes
from carbonmon.runs.layout import CHECKPOINT_FILES, RUN_FILE, SUMMARY_FILE

LAST = "last"
"""The word for the run that began last."""

MOST_CANDIDATES = 10
_LONGEST_BYTES = 16 << 20


class Found(NamedTuple):
    """A run that is there: its folder, and what it is called."""

    folder: Path
    run_id: str
    name: str
    host: str
    started_at_s: float | None


def named(run: str, output: Path, command: str, takes_files: bool = False) -> Path:
    """The folder that a user's word means: a path, that of a summary.json in it, or a run under the output.

    With `takes_files` also any other file. Raises `ConfigError` that begins with the command.
    """
    path = Path(run)
    try:
        if path.name == SUMMARY_FILE and path.parent.is_dir():  # the file comes after a minute
            return path.parent
        if run == path.name and (output / run).is_dir():  # an id, whatever lies in the current folder
            return output / run
        is_there = path.is_dir() or (takes_files and path.is_file())
        if is_there:
            _check_kind(path, run, command)
        return path if is_there else find(output, run, command)
    except (OSError, ValueError) as error:  # a name too long, or a folder that may not be entered
        raise ConfigError(f"{command}: {run!r:.60} cannot be looked up: {error}") from None


def _check_kind(path: Path, word: str, command: str) -> None:
    """Raise `ConfigError` for a folder that is none of a run, and for a file that is none of ours."""
    if path.is_file():
        if path.suffix in (".py", ".sh", ".toml", ".log", ".txt", ".ipynb", ".jsonl", ".csv"):
            raise ConfigError(
                f"{command}: {word!r:.60} is no summary; give a run's folder, or its summary.json"
            )
        return
    if any((path / name).exists() for name in (RUN_FILE, SUMMARY_FILE, *CHECKPOINT_FILES)):
        return
    runs = [folder.name for folder in _folders(path) if _look(folder) is not None]
    if runs:
        raise ConfigError(
            f"{command}: {word!r:.60} is a folder of {len(runs)} runs: name one, for instance "
            f"{path / runs[-1]}; carbonmon runs lists them"
        )
    inside = path / DEFAULT_OUTPUT
    where = f"; its runs are in {inside}" if inside.is_dir() else ""
    raise ConfigError(f"{command}: {word!r:.60} is no folder of a run{where}")


def find(output: Path, word: str, option: str = "--resume") -> Path:
    """The folder of an earlier run under the output.

    Raises `ConfigError` with the nearest names where there is none, and with all candidates where there are
    several.
    """
    folder = output / word
    if word == Path(word).name and folder.is_dir():
        return folder
    found = matching(output, word)
    if len(found) == 1:
        return found[0].folder
    if found:
        raise ConfigError(_ambiguous(word, output, option, found))
    names = [path.name for path in _folders(output)]
    raise ConfigError(f"{option}: no run {word!r} in {output}; {_instead(output, word, names)}")


def _instead(output: Path, word: str, names: Sequence[str]) -> str:
    """What there is where no run is called so."""
    if names and "/" not in word:
        return f"{nearest_runs(word, names, by_name=True)}; carbonmon runs lists them"
    if "/" in word:
        return f"nor is there such a file or folder, seen from {absolute(Path())}"
    where = "it is empty" if output.is_dir() else "that folder is not there"
    return f"{where}: go to the folder where the runs are, or name it: --output DIR"


def nodes(output: Path, word: str) -> str | None:
    """The id of the run of which a word means one node or all, None where it means none or several runs."""
    ids = {found.run_id for found in matching(output, word)}
    return ids.pop() if len(ids) == 1 else None


def matching(output: Path, word: str) -> list[Found]:
    """The runs that a word means: the last one, else those of this id, else of this name, else those whose
    folder's name begins so. The nodes of a run have one id, and a folder each."""
    runs = [found for folder in _folders(output) if (found := _look(folder)) is not None]
    if word == LAST:
        begun = [found for found in runs if found.started_at_s is not None]
        return sorted(begun, key=lambda found: found.started_at_s or 0.0)[-1:]
    return (
        [found for found in runs if found.run_id == word]
        or [found for found in runs if found.name == word]
        or [found for found in runs if word and found.folder.name.startswith(word)]
    )


def _folders(output: Path) -> list[Path]:
    with suppress(OSError, ValueError):
        return sorted(path for path in output.iterdir() if path.is_dir())
    return []


def _look(folder: Path) -> Found | None:
    """What a folder's run is called; None for a folder of no run, and for one that cannot be read."""
    for name in (RUN_FILE, SUMMARY_FILE):
        with suppress(RunFileError, KeyError, TypeError, AttributeError):
            path = folder / name
            run = json_object(read_bytes(path, _LONGEST_BYTES), path, RunFileError)["run"]
            return Found(folder, str(run["id"]), str(run["name"]), str(run["host"]), _start_s(run))
    return None


def _start_s(run: dict[str, Any]) -> float | None:
    """When a run began: run.json has Unix seconds, summary.json a text."""
    found = run.get("started_at_s", run.get("started_at"))
    if isinstance(found, str):
        return known_time(found)
    return float(found) if isinstance(found, (int, float)) else None


def _ambiguous(word: str, output: Path, option: str, found: Sequence[Found]) -> str:
    newest = sorted(found, key=lambda run: run.started_at_s or 0.0, reverse=True)
    lines = [
        f"  {run.folder.name}  {plain(run.name)}  {local_text(run.started_at_s)}  {plain(run.host)}"
        for run in newest[:MOST_CANDIDATES]
    ]
    if len(newest) > MOST_CANDIDATES:
        lines.append(f"  and {len(newest) - MOST_CANDIDATES} older ones")
    is_one = len({run.run_id for run in found}) == 1
    what = f"the {len(found)} nodes of a run" if is_one else f"{len(found)} runs"
    return "\n".join(
        (
            f"{option}: {word!r} in {output} may be any of {what}; give the first word, or enough of it:",
            *lines,
        )
    )

"""A run's folder OUTPUT/RUN_ID: made once, never shared by two runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.runs.holder import MONITOR_FILE
from carbonmon.runs.layout import FILES, SUMMARY_FILE


class CannotWrite(ConfigError):
    """No folder can be made in the output; `number` is the errno."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


def create(output: Path, run_id: str | None, default_id: str, suffix: str = "") -> Path:
    """Make the folder of a new run: `run_id` as the user gave it, else `default_id` made unique.

    `suffix` distinguishes the folders of several nodes whose runs have the same id. Raises `CannotWrite` if
    the output cannot be written, and `ConfigError` if the given id has a folder already.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        if run_id is None:
            return _make_unique(output, default_id, suffix)
        folder = output / f"{run_id}{suffix}"
        folder.mkdir()
    except FileExistsError:
        if run_id is None or not output.is_dir():
            raise ConfigError(f"--output: {output} is not a folder; give one: --output DIR") from None
        raise ConfigError(
            f"--run-id: {run_id!r} {_state(folder)} in {output}; give another id, or resume it: "
            f"--resume {run_id}"
        ) from None
    except OSError as error:
        raise CannotWrite(
            f"--output: {output} cannot be written ({error.strerror or error}); "
            "give a folder that can: --output DIR",
            error.errno or 0,
        ) from None
    return folder


def why_not_ours(folder: Path) -> str:
    """Why a folder that was found is not one that a process of this user has made, "" if it is.

    Whoever may write beside it can plant folders, files and links that lead elsewhere.
    """
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            return "it is no folder"
        if found.st_mode & stat.S_IWOTH:
            return "every user may write into it"
        files = _files(folder)
        why = _why_elsewhere(folder, files)
        if why:
            return why
        # root gives the summary to the run's user; nobody goes on from it
        owners = {found.st_uid, *(file.st_uid for name, file in files.items() if name != SUMMARY_FILE)}
    except OSError as error:
        return error.strerror or str(error)
    others = owners - {os.geteuid()}
    return f"it is of user {min(others)}" if others else ""


def why_misleading(folder: Path) -> str:
    """Why a folder that was named is not gone on with, "" if it is: somebody else may have it lead elsewhere.

    Unlike one that was merely found it may be another user's, as where root resumes a user's run. In what is
    our own we are believed, links among it.
    """
    try:
        found = folder.lstat()
        if stat.S_ISLNK(found.st_mode):
            if found.st_uid != os.geteuid():
                return f"it is a link of user {found.st_uid}"
            found = folder.stat()
        if found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH:
            return ""
        return _why_elsewhere(folder, _files(folder))
    except OSError as error:
        return error.strerror or str(error)


def _files(folder: Path) -> dict[str, os.stat_result]:
    """The files of a run that are in its folder, by name; raises OSError."""
    found = {}
    for name in (*FILES, SUMMARY_FILE, MONITOR_FILE):
        with suppress(FileNotFoundError):
            found[name] = (folder / name).lstat()
    return found


def _why_elsewhere(folder: Path, files: Mapping[str, os.stat_result]) -> str:
    """Which of the files may be another one elsewhere, "" if none is; raises OSError."""
    for name, found in files.items():
        if not stat.S_ISREG(found.st_mode):
            return f"{name} is no regular file"
        if found.st_nlink > 1 and not _has_draft(folder, name, found):
            return f"{name} is a second name of another file"
    return ""


def _has_draft(folder: Path, name: str, found: os.stat_result) -> bool:
    """Whether the second name of monitor.json is its draft, left by a monitor that was killed just then."""
    if name != MONITOR_FILE or found.st_nlink != 2:
        return False
    return any(os.path.samestat(draft.lstat(), found) for draft in folder.glob(f".{MONITOR_FILE}.*.tmp"))


def discard(folder: Path, names: tuple[str, ...]) -> None:
    """Remove the folder of a run that never began, with the files that were made in it."""
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()
    with suppress(OSError):
        folder.rmdir()


def _state(folder: Path) -> str:
    if not (folder / SUMMARY_FILE).exists():
        return "exists already"
    try:
        finished = '"state": "final"' in (folder / SUMMARY_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "exists already"
    return "has already finished" if finished else "has already begun"


def _make_unique(output: Path, default_id: str, suffix: str) -> Path:
    number = 1
    while True:
        folder = output / f"{default_id if number == 1 else f'{default_id}-{number}'}{suffix}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder

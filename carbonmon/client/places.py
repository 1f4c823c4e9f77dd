"""The folders for the sockets of monitors: all processes of a run on this node find the same one.

In this order, and the first that serves is taken:

    $XDG_RUNTIME_DIR/carbonmon   if $XDG_RUNTIME_DIR belongs to us
    $TMPDIR/carbonmon-UID
    /tmp/carbonmon-UID
    /dev/shm/carbonmon-UID       in a container whose root file system is read-only

A folder serves if it is ours, with mode 0700 and no symbolic link, if its path is short enough, and if its
file system has sockets and locks. Variables with a relative path are ignored: another process may work in
another folder. Imported by the training process: standard library only.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from carbonmon.core.errors import ConfigError

MAX_PATH_BYTES = 107
"""sun_path holds 108 bytes and ends with a zero (unix(7))."""

MAX_NAME_BYTES = len("run-job-4194304-ff.sock")
MAX_FOLDER_BYTES = MAX_PATH_BYTES - MAX_NAME_BYTES - len("/")

LOCAL_FOLDERS = (Path("/tmp"), Path("/dev/shm"))
"""Folders that every user may write into, and that no other machine shares."""


def runtime_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder for new sockets of this user, made if missing, which no other user may read.

    Raises `ConfigError` with the reason for each folder if none serves.
    """
    faults = []
    for folder in _folders(environ):
        fault = _fault(folder) or _make(folder) or _fault(folder) or _missing_feature(folder)
        if not fault:
            return folder
        faults.append(f"{folder}: {fault}")
    raise ConfigError(
        f"no folder can hold sockets ({'; '.join(faults)}); set XDG_RUNTIME_DIR to a folder of yours on a "
        f"local disk, with a path of at most {MAX_FOLDER_BYTES - len('/carbonmon')} bytes"
    )


def safe_folders(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The folders that may hold sockets of ours: one that is full now may have some from before.

    Some may not be there yet.
    """
    return [folder for folder in _folders(environ) if not _fault(folder)]


def _folders(environ: Mapping[str, str]) -> Iterator[Path]:
    runtime, temporary = Path(environ.get("XDG_RUNTIME_DIR", "")), Path(environ.get("TMPDIR", ""))
    if runtime.is_absolute():
        yield runtime / "carbonmon"
    name = f"carbonmon-{os.geteuid()}"
    if temporary.is_absolute() and temporary not in LOCAL_FOLDERS:
        yield temporary / name
    for parent in LOCAL_FOLDERS:
        yield parent / name


def _fault(folder: Path) -> str:
    """Why the sockets in a folder cannot be reached or trusted, "" if they can or the folder is missing."""
    if len(os.fsencode(folder)) > MAX_FOLDER_BYTES:
        return f"its path has more than {MAX_FOLDER_BYTES} bytes"
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:  # ValueError: a path with a zero in it
        return str(error)
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a folder; remove it"
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        return (
            f"it is open to other users (owner {found.st_uid}, mode {found.st_mode & 0o777:o}); "
            f"remove it, or: chmod 700 {folder}"
        )
    return ""


def _make(folder: Path) -> str:
    """Make the folder if it is missing; what is wrong, "" if nothing is."""
    try:
        # $XDG_RUNTIME_DIR of another user: after su, or sudo that keeps the environment
        if folder.name == "carbonmon" and folder.parent.stat().st_uid != os.geteuid():
            return f"{folder.parent} belongs to another user"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    except OSError as error:
        return f"it cannot be made ({error.strerror or error})"
    return ""


def _missing_feature(folder: Path) -> str:
    """Try to make a file, a lock and a socket in the folder; what fails, "" if all can be made.

    Disks may be full or read-only; Lustre and NFS may have no locks, FUSE and Windows' disks no sockets.
    """
    probe = folder / f"probe-{os.urandom(4).hex()}"
    what = "a file"
    try:
        try:
            descriptor = os.open(
                probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            try:
                what = "a lock"
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.close(descriptor)
            what = "a socket"
            probe.unlink()
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
                bound.bind(os.fspath(probe))
        finally:
            with suppress(FileNotFoundError):
                probe.unlink()
    except OSError as error:
        return f"{what} cannot be made in it ({error.strerror or error})"
    return ""

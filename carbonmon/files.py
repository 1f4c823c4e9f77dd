"""Writing files so that a reader, a crash or a power loss never meets half of one."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

MODE = 0o640


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file atomically and durably: a temporary file beside it, fsync, rename, fsync of the folder.

    A stricter umask is respected. Raises OSError and leaves the old file if it cannot.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, MODE)
    try:
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def append_durably(descriptor: int, data: bytes) -> None:
    """Append to an open file and wait until the disk has it. Raises OSError."""
    _write_all(descriptor, data)
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable; file systems that cannot do that are excused."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems cannot sync a folder; the file itself is safe by then.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

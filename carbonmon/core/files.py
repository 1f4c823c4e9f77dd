"""Writes files atomically, so that no reader and no crash sees half of one, and reads them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.records import NamedTuple

MODE = 0o640

_FIRST_PART_BYTES, _PART_BYTES = 1 << 14, 1 << 18

LONGEST_SECRET_BYTES = 1 << 16

DISK_FAULTS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT)
)
"""What a disk says that is full, read-only, broken or gone: no mistake of whoever chose the folder."""


def absolute(path: Path) -> Path:
    """A path from the root; as it is where the working folder was removed, and nothing lies below it."""
    try:
        return path.absolute()
    except FileNotFoundError:
        return path


def open_file(path: Path, *, follows: bool = True) -> BufferedReader:
    """A regular file, to be read; raises OSError, and waits for no pipe. `follows`: it may be a link."""
    more = os.O_NONBLOCK if follows else os.O_NONBLOCK | os.O_NOFOLLOW
    file = open(  # noqa: SIM115 (who asked for it closes it)
        path, "rb", opener=lambda name, flags: os.open(name, flags | more)
    )
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file")
    return file


def read_file(path: Path, limit_bytes: int) -> bytes:
    """The whole of a regular file. Raises OSError, also for one that is too long, and waits for no pipe."""
    with open_file(path) as file:
        parts, size, part_bytes = [], 0, _FIRST_PART_BYTES
        # `read(n)` takes n bytes of memory at once, whatever the file has.
        while size <= limit_bytes and (part := file.read(min(part_bytes, limit_bytes + 1 - size))):
            parts.append(part)
            size += len(part)
            part_bytes = _PART_BYTES
    if size > limit_bytes:
        raise OSError(errno.EFBIG, f"it is longer than {limit_bytes} bytes")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def secret_text(path: Path, what: str) -> str:
    """The text of a file that no other user can read or write; `what` is in it, for errors.

    The permissions are those of the open file, which cannot be replaced meanwhile. Raises ConfigError for
    one that others can touch or that is none, OSError, and ValueError where it is not UTF-8.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path}: the {what} can be read from a regular file only")
        if found.st_uid not in (os.geteuid(), 0):
            raise ConfigError(
                f"{path}: it belongs to another user, who could change the {what}: "
                f"chown {os.geteuid()} {path}"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigError(f"{path}: others may read or write the {what} in it: chmod 600 {path}")
        data = file.read(LONGEST_SECRET_BYTES + 1)
    if len(data) > LONGEST_SECRET_BYTES:
        raise ConfigError(f"{path}: longer than {LONGEST_SECRET_BYTES} bytes: not a file of {what}")
    return data.decode("utf-8-sig")


class FileId(NamedTuple):
    """Which file it is, and how long: who made a file knows it again, whatever was put at its path since."""

    device: int
    inode: int
    size: int


def replace_file(
    path: Path,
    data: bytes | Iterable[bytes],
    mode: int = MODE,
    *,
    for_others: bool = False,
    uid: int | None = None,
) -> FileId:
    """Replace a file atomically and durably: a temporary file beside it, fsync, rename, fsync of the folder.

    `data` may come in parts, of which none is kept. A stricter umask is respected, but not with `for_others`.
    Many users may write into the folder: a file or link of another user at the temporary file's path is not
    written into. What root writes is of the user whose the folder is, else of user `uid`, but not with
    `for_others`. Raises OSError and leaves the old file if it cannot. Returns which file it is now, for
    `overwrite_file`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, mode)
    try:
        try:
            if for_others:
                os.fchmod(descriptor, mode)
            elif os.geteuid() == 0:
                _give(descriptor, path.parent, uid)
            for part in (data,) if isinstance(data, bytes) else data:
                _write_all(descriptor, part)
            os.fsync(descriptor)
            own = _id_of(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
    return own


def overwrite_file(path: Path, data: bytes, own: FileId) -> bool:
    """Write over a file that `replace_file` made, durably; `data` is not shorter than what stands there.

    False where another file is at the path, one of another size, or none: nothing was written. A write that
    a full disk ended may have made it longer, and what is longer would stay behind `data`. Whoever reads
    meanwhile or after a crash may find a part of it: the content must tell. Raises OSError.
    """
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR):  # a link, a pipe, a folder
            return False
        raise
    try:
        if _id_of(descriptor) != own:
            return False
        _write_all(descriptor, data)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return True


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Remove the temporary files of `replace_file` that processes left behind when they were killed.

    Only those of files with these names: what else lies in the folder is the user's.
    """
    begins = tuple(f".{name}." for name in names)
    with contextlib.suppress(OSError), os.scandir(folder) as found:
        for file in found:
            if file.name.startswith(begins) and file.name.endswith(".tmp"):
                with contextlib.suppress(OSError):
                    Path(file).unlink()


def append_whole(descriptor: int, data: bytes, *, syncs: bool = True) -> None:
    """Append to an open file, and wait until the disk has it if it `syncs`.

    Raises OSError and leaves no part behind.
    """
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
        if syncs:
            os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - (len(data) - len(left)))
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable; on file systems that cannot do that it does nothing."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems cannot sync a folder; the file itself is safe by then.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)


def _give(descriptor: int, folder: Path, uid: int | None) -> None:
    owner = folder.stat().st_uid or uid
    if owner:
        with contextlib.suppress(PermissionError):  # NFS does not let root do that
            os.fchown(descriptor, owner, -1)


def _id_of(descriptor: int) -> FileId:
    found = os.fstat(descriptor)
    return FileId(found.st_dev, found.st_ino, found.st_size)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

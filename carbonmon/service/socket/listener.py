"""A Unix socket in the file system: made only if no process listens there, never with wider permissions."""

from __future__ import annotations

import os
import resource
import socket
import stat
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from carbonmon.client.places import MAX_PATH_BYTES
from carbonmon.client.rendezvous import locked
from carbonmon.core.errors import ConfigError

MAX_CONNECTIONS = 1024
_SPARE_FILES = 256
"""Open files that are reserved for sensors, run files and scrapes."""
_LOCK_S = 5.0
_BACKLOG = 1024
"""All ranks connect at the same time; the kernel limits this to net.core.somaxconn."""


class Listener:
    """A listening socket at a path of its own. Raises `ConfigError` if it cannot be made."""

    def __init__(self, path: Path, mode: int, folder_mode: int) -> None:
        self.path = path
        length = len(os.fsencode(path))
        if length > MAX_PATH_BYTES:
            raise ConfigError(
                f"the path of the socket has {length} bytes, at most {MAX_PATH_BYTES} are possible ({path}); "
                "give a shorter one: --socket PATH"
            )
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(mode=folder_mode, parents=True, exist_ok=True)
            with _locked(path):
                _remove_stale(path)
                self.socket = _bind(path, mode)
            self._file = path.lstat()
        except OSError as error:
            raise ConfigError(
                f"no socket can be made at {path} ({error.strerror or error}); "
                "give another path: --socket PATH"
            ) from None

    def close(self) -> None:
        """Stop listening; the file is removed if it is still ours."""
        with suppress(OSError, ConfigError), _locked(self.path):
            if os.path.samestat(self.path.lstat(), self._file):
                self.path.unlink()
        self.socket.close()


def check(path: Path) -> None:
    """Raise `ConfigError` if another monitor listens at a path; before anything else is opened."""
    with suppress(OSError):  # what else is wrong is said when the socket is made
        if os.path.lexists(path):
            with _locked(path):
                _remove_stale(path)


def _remove_stale(path: Path) -> None:
    """Remove a socket on which no process listens any more."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(f"{path} exists and is no socket; give another path: --socket PATH")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # its queue is full: it has a listener
    raise ConfigError(f"another monitor listens at {path}; end it, or give another path: --socket PATH")


def _bind(path: Path, mode: int) -> socket.socket:
    """A socket whose file never had wider permissions than `mode`.

    Linux makes the file with the mode of the socket's own inode, less the umask (unix_bind in
    net/unix/af_unix.c), so the mode is set before; afterwards it is only widened to what was asked for.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(listening.fileno(), mode)
        listening.bind(os.fspath(path))
        try:
            path.chmod(mode)
            listening.listen(_BACKLOG)
        except BaseException:
            path.unlink()
            raise
    except BaseException:
        listening.close()
        raise
    return listening


def _locked(path: Path) -> AbstractContextManager[None]:
    """Hold the lock that keeps two monitors from checking for a stale socket at once.

    A lock of the folder itself could be held by any user who may read it.
    """
    return locked(Path(f"{path}.bind"), _LOCK_S)


def connection_limit() -> int:
    """How many connections leave enough open files for the rest: each needs two, the socket and a pidfd."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(8, (soft - _SPARE_FILES) // 2))

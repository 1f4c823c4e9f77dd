"""The sockets of monitors on this node, and the lock by which the processes of a run start exactly one.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from carbonmon.client.places import (
    LOCAL_FOLDERS,
    MAX_NAME_BYTES,
    runtime_folder,
    safe_folders,
)
from carbonmon.client.protocol import GPU_VARIABLES, RUN_VARIABLE, SOCKET_VARIABLE
from carbonmon.core.errors import ConfigError

NODE_SOCKET = Path("/run/carbonmon/daemon.sock")
"""The socket of a daemon that root has started for all users of the node."""

POLL_S, QUEUE_S = 0.02, 0.005

_DAEMON_NAME = "daemon.sock"

_JOB_SOCKET = r"run-job-([0-9]{1,9})(?:-[0-9a-f]{2})?\.sock"


def credentials(connection: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of the other end as the kernel knows them: SO_PEERCRED, unix(7)."""
    pid, uid, gid = struct.unpack("iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid & 0xFFFFFFFF, gid & 0xFFFFFFFF


def run_socket(key: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The socket of the monitor that the processes of one run have started for themselves.

    Where such a monitor listens, else where it is to listen. Raises `ConfigError` if no folder can hold it.
    """
    name = f"run-{key}.sock"
    if not key.isascii() or "/" in key or "\0" in key or len(name) > MAX_NAME_BYTES:
        from hashlib import sha256

        name = f"run-{sha256(key.encode('utf-8', 'replace')).hexdigest()[:14]}.sock"
    return _socket(name, environ)


def job_socket(environ: Mapping[str, str] = os.environ) -> Path:
    """The socket of the monitor of our own job; sockets that killed ones have left are removed."""
    folder = runtime_folder(environ)
    # Other folders may be on a network file system, where the sockets of other machines look unused.
    if folder.parent in (*LOCAL_FOLDERS, Path(environ.get("XDG_RUNTIME_DIR") or "/tmp")):
        with suppress(OSError):
            for left in sorted(folder.iterdir()):
                _remove_if_stale(left)
    path = folder / f"run-job-{os.getpid()}.sock"
    if _has_listener(path):  # of the same pid in another container that shares the folder
        path = folder / f"run-job-{os.getpid()}-{os.urandom(1).hex()}.sock"
    return path


def daemon_socket(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a daemon of our own user listens, or is to listen.

    Raises `ConfigError` if no folder can hold it.
    """
    return _socket(_DAEMON_NAME, environ)


def daemon_sockets(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The sockets of possible daemons of this node, those of our own user first."""
    return [*(folder / _DAEMON_NAME for folder in safe_folders(environ)), NODE_SOCKET]


def _socket(name: str, environ: Mapping[str, str]) -> Path:
    """A socket in the first folder that serves, or in another one where a monitor listens already.

    Which folder serves may change with time, for instance when a disk is full.
    """
    for folder in safe_folders(environ):
        if _has_listener(folder / name):
            return folder / name
    return runtime_folder(environ) / name


def connect(path: Path, timeout_s: float) -> socket.socket:
    """A connection to the monitor at `path`, which must belong to our user or root; raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        deadline_s = time.monotonic() + timeout_s
        connection.settimeout(timeout_s)
        try:
            while True:
                try:
                    connection.connect(os.fspath(path))
                    break
                except (
                    BlockingIOError
                ):  # its queue is full: a socket with a time limit does not wait for that
                    if time.monotonic() >= deadline_s:
                        raise
                    time.sleep(QUEUE_S)
        except ValueError as error:  # a path with a zero in it
            raise OSError(str(error)) from None
        _, uid, _ = credentials(connection)
        if uid not in (os.geteuid(), 0):
            raise PermissionError(f"the monitor at {path} belongs to user {uid}, not to us")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_or_start(path: Path, start: Callable[[float], None], timeout_s: float) -> socket.socket:
    """A connection to the monitor at `path`; `start(timeout_s)` starts it, once for all ranks.

    Raises OSError (TimeoutError, …) and what `start` raises.
    """
    deadline_s = time.monotonic() + timeout_s
    with suppress(OSError):
        return connect(path, timeout_s)
    with locked(path, timeout_s):
        with suppress(OSError):
            return connect(path, max(POLL_S, deadline_s - time.monotonic()))
        start(max(POLL_S, deadline_s - time.monotonic()))
        return connect(path, max(POLL_S, deadline_s - time.monotonic()))


@contextmanager
def locked(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock beside `path` (flock(2) of `path`.lock); TimeoutError if another process keeps it.

    The holder removes the file at the end: a process that has locked a file that is no longer the one in the
    folder tries again.
    """
    lock = Path(f"{path}.lock")
    deadline_s = time.monotonic() + timeout_s
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline_s:
                    raise TimeoutError(f"{lock} was held by another process for {timeout_s:g} s")
                time.sleep(POLL_S)
            if _is_at(descriptor, lock):
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return
        finally:
            os.close(descriptor)


def start_monitor(
    path: Path,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    timeout_s: float,
    command: Sequence[str] = (),
) -> None:
    """Start a monitor that ends with the last participant, and wait until it listens at `path`.

    The command goes to the background by itself and exits with 0 once the socket answers. Raises
    `ConfigError` with its last line of stderr if it fails. `command` replaces its beginning in tests.
    """
    import subprocess

    if not sys.executable and not command:
        raise ConfigError("no monitor can be started: the path of Python is unknown (sys.executable)")
    begin = list(command) or [sys.executable, "-m", "carbonmon"]
    argv = [*begin, "daemon", "--once", "--detach", "--socket", os.fspath(path), *arguments]
    debug = bool(environ.get("CARBONMON_DEBUG"))
    log = os.memfd_create("carbonmon-start")  # a pipe would stay open as long as the monitor runs
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if debug else log,
            env=_monitor_environ(environ),
            start_new_session=True,
        )
        try:
            code = process.wait(timeout_s)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: also its children
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise ConfigError(f"the monitor did not start within {timeout_s:.0f} s") from None
            raise
        if code:
            lines = os.pread(log, 1 << 16, 0).decode("utf-8", "replace").strip().splitlines()
            raise ConfigError(f"the monitor could not start: {lines[-1] if lines else f'exit code {code}'}")
    except (OSError, ValueError) as error:  # ValueError: a zero in an argument or a variable
        raise ConfigError(f"the monitor cannot be started: {error}") from None
    finally:
        os.close(log)


def _monitor_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a monitor: it measures the whole node, so variables for one rank are removed.

    The working folder of a training job may hold a select.py or a types.py: PYTHONSAFEPATH keeps it out of
    the monitor's imports (Python 3.11). If carbonmon itself is imported from there, PYTHONPATH names it.
    """
    dropped = {*GPU_VARIABLES, SOCKET_VARIABLE, RUN_VARIABLE}
    own = {key: value for key, value in environ.items() if key not in dropped}
    root = Path(__file__).resolve().parents[2]
    with suppress(OSError):  # the working folder was removed
        if sys.path and Path(sys.path[0] or ".").resolve() == root:
            own["PYTHONPATH"] = os.pathsep.join(filter(None, (own.get("PYTHONPATH"), os.fspath(root))))
    return own | {"PYTHONSAFEPATH": "1"}


def _remove_if_stale(path: Path) -> None:
    """Remove the socket of a job's monitor that has ended: one of ours without its process and listener."""
    match = re.fullmatch(_JOB_SOCKET, path.name)
    if match is None:
        return
    with suppress(OSError):  # also: another process is about to listen there, or has removed it
        try:
            os.kill(int(match[1]), 0)
        except ProcessLookupError:
            # A process in another pid namespace that shares the folder is not visible: its socket answers.
            with locked(Path(f"{path}.bind"), 0.0):
                found = path.lstat()
                if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid() and _has_no_listener(path):
                    path.unlink()


def _has_listener(path: Path) -> bool:
    """Whether a monitor listens at `path`, as far as can be found out."""
    with suppress(OSError, ValueError):
        return not _has_no_listener(path)
    return False


def _has_no_listener(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return True
        except BlockingIOError:  # its queue is full: it has a listener
            return False
    return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False

"""In which folder the sockets are: the first that serves, whatever the environment and its disks are like."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from carbonmon.client import places, rendezvous
from carbonmon.client.places import MAX_FOLDER_BYTES, runtime_folder, safe_folders
from carbonmon.client.rendezvous import daemon_socket, daemon_sockets, job_socket, run_socket
from carbonmon.core.errors import ConfigError

NAME = f"carbonmon-{os.geteuid()}"


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine's own /tmp and /dev/shm, which are `local`/tmp and `local`/shm here; its path is short."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cm-") as name:
        folder = Path(name)
        for each in (folder / "tmp", folder / "shm"):
            each.mkdir()
            each.chmod(0o1777)
        monkeypatch.setattr(places, "LOCAL_FOLDERS", (folder / "tmp", folder / "shm"))
        yield folder


@pytest.fixture
def given(local: Path) -> Path:
    """A folder of the user's own, as $XDG_RUNTIME_DIR may name it."""
    (local / "given").mkdir(mode=0o700)
    return local / "given"


def folder_of(runtime: object, temporary: object = "") -> Path:
    return runtime_folder({"XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(temporary)})


def fail(number: int) -> Callable[..., object]:
    def failing(*_: object, **__: object) -> object:
        raise OSError(number, os.strerror(number))

    return failing


def listening_at(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.fspath(path))
    listening.listen()
    return listening


# ---- the order ----


def test_the_user_s_runtime_folder_is_the_first(given: Path, local: Path):
    assert folder_of(given, local) == given / "carbonmon"
    assert stat.S_IMODE((given / "carbonmon").stat().st_mode) == 0o700
    assert list((given / "carbonmon").iterdir()) == [], "trying leaves nothing behind"


def test_then_come_the_temporary_folder_tmp_and_shared_memory(local: Path):
    (local / "job").mkdir()
    assert folder_of("", local / "job") == local / "job" / NAME
    assert folder_of("") == local / "tmp" / NAME
    (local / "tmp" / NAME).rmdir()
    (local / "tmp").rename(local / "no tmp")
    assert folder_of("") == local / "shm" / NAME


def test_a_path_with_spaces_and_letters_of_any_language_serves(local: Path):
    (local / "my räume").mkdir()
    assert folder_of(local / "my räume") == local / "my räume" / "carbonmon"


# ---- a folder that does not serve ----


def made(name: str, make: Callable[[Path], object], of: str = "") -> Callable[[Path], object]:
    """$XDG_RUNTIME_DIR (or `of` in it) after something was made at `name` in it."""

    def make_it(folder: Path) -> Path:
        make(folder / name)
        return folder / of

    return make_it


def open_to(mode: int) -> Callable[[Path], object]:
    def make_it(path: Path) -> None:
        path.mkdir()
        path.chmod(mode)

    return make_it


BAD: dict[str, Callable[[Path], object]] = {
    "empty": lambda folder: "",
    "relative": lambda folder: "given",
    "missing": lambda folder: folder / "missing",
    "a file": lambda folder: "/proc/version",
    "below a file": lambda folder: "/proc/version/below",
    "a zero in it": lambda folder: f"{folder}\0",
    "half a character in it": lambda folder: f"{folder}/\udcff",
    "too long": made("x" * 100, Path.mkdir, "x" * 100),
    "a name too long": lambda folder: folder / ("x" * 300),
    "a link to itself": made("loop", lambda path: path.symlink_to("loop"), "loop"),
    "where nobody makes folders": lambda folder: "/proc/1",
    "our folder is a file": made("carbonmon", Path.touch),
    "our folder is a link": made("carbonmon", lambda path: path.symlink_to("/tmp")),
    "our folder is a dangling link": made("carbonmon", lambda path: path.symlink_to("nowhere")),
    "our folder is open to all": made("carbonmon", open_to(0o777)),
    "our folder is open to the group": made("carbonmon", open_to(0o750)),
}


@pytest.mark.parametrize("what", BAD)
def test_where_the_runtime_folder_does_not_serve_the_next_one_is_taken(
    given: Path, local: Path, what: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(local)
    environ = {"XDG_RUNTIME_DIR": str(BAD[what](given))}
    for _ in range(2):
        assert runtime_folder(environ) == local / "tmp" / NAME
        assert run_socket("slurm-4242", environ) == local / "tmp" / NAME / "run-slurm-4242.sock"
        assert job_socket(environ).parent == daemon_socket(environ).parent == local / "tmp" / NAME


def test_a_folder_of_another_user_is_passed_by(given: Path, local: Path, monkeypatch: pytest.MonkeyPatch):
    (local / "tmp" / NAME).mkdir(mode=0o700)
    (local / "tmp" / NAME).rename(local / "tmp" / "carbonmon-4711")  # made by us, who are not 4711
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(
        ConfigError, match=r"given belongs to another user.*tmp/carbonmon-4711: it is open to"
    ):
        folder_of(given)
    assert not (given / "carbonmon").exists()


@pytest.mark.parametrize("call", ["mkdir", "open"])
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE]
)
def test_a_disk_that_takes_nothing_is_passed_by(
    given: Path, local: Path, call: str, number: int, monkeypatch: pytest.MonkeyPatch
):
    real = getattr(os, call)

    def failing(path: object, *more: object, **named: object) -> object:
        if str(path).startswith(str(given)):
            raise OSError(number, os.strerror(number))
        return real(path, *more, **named)

    monkeypatch.setattr(os, call, failing)
    assert folder_of(given) == local / "tmp" / NAME


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_passed_by(
    given: Path, local: Path, number: int, monkeypatch: pytest.MonkeyPatch
):
    real = fcntl.flock

    def failing(descriptor: int, operation: int) -> None:
        if given in Path(f"/proc/self/fd/{descriptor}").readlink().parents:
            raise OSError(number, os.strerror(number))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", failing)
    assert folder_of(given) == local / "tmp" / NAME
    assert list((given / "carbonmon").iterdir()) == []


def test_a_file_system_without_sockets_is_passed_by(
    given: Path, local: Path, monkeypatch: pytest.MonkeyPatch
):
    class Socket(socket.socket):
        def bind(self, address: object) -> None:
            if str(address).startswith(str(given)):
                raise PermissionError(errno.EPERM, "Operation not permitted")
            super().bind(address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "socket", Socket)
    assert folder_of(given) == local / "tmp" / NAME


def test_where_nothing_serves_every_reason_is_said_and_the_remedy(
    given: Path, local: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(socket.socket, "bind", fail(errno.EPERM))
    with pytest.raises(
        ConfigError, match=r"a socket cannot be made.*; set XDG_RUNTIME_DIR to a folder of yours"
    ):
        folder_of(given)
    assert [list(folder.iterdir()) for folder in safe_folders({})] == [[], []]


@pytest.mark.parametrize("too_long", [False, True])
def test_the_longest_folder_holds_every_socket(local: Path, too_long: bool):
    bytes_left = MAX_FOLDER_BYTES - len(os.fsencode(local / "_" / "carbonmon"))
    deep = local / ("d" * (1 + bytes_left + too_long))
    deep.mkdir()
    environ = {"XDG_RUNTIME_DIR": os.fspath(deep)}
    assert runtime_folder(environ) == (local / "tmp" / NAME if too_long else deep / "carbonmon")
    for path in (
        run_socket("x" * 99, environ),
        run_socket("job-4194304-ff", environ),
        daemon_socket(environ),
    ):
        listening_at(path).close()


# ---- all processes of a run find one socket ----


def test_all_processes_with_the_same_environment_find_the_same_socket(given: Path, local: Path):
    environ = {**os.environ, "XDG_RUNTIME_DIR": os.fspath(given / ("x" * 90)), "TMPDIR": os.fspath(local)}
    code = "from carbonmon.client.rendezvous import run_socket; print(run_socket('slurm-42'))"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, cwd=folder, text=True
        )
        for folder in (given, local, "/")
    ]
    found = {rank.communicate()[0] for rank in ranks}
    assert found == {f"{local / NAME / 'run-slurm-42.sock'}\n"}


@pytest.mark.parametrize("name", ["run-slurm-42.sock", "daemon.sock"])
def test_a_monitor_from_when_another_folder_served_is_still_found(
    given: Path, local: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    """The first folder was full when the run began and is not now, and the other way round."""
    environ = {"XDG_RUNTIME_DIR": os.fspath(given)}

    def find() -> Path:
        return daemon_socket(environ) if name == "daemon.sock" else run_socket("slurm-42", environ)

    with closing(listening_at(local / "tmp" / NAME / name)):
        assert find() == local / "tmp" / NAME / name
    assert find() == given / "carbonmon" / name, "what was left behind is nobody's"
    with closing(listening_at(given / "carbonmon" / name)):
        monkeypatch.setattr(
            places, "_missing_feature", lambda folder: "full" if given in folder.parents else ""
        )
        assert find() == given / "carbonmon" / name


def test_a_daemon_is_looked_for_in_every_folder_that_is_ours(given: Path, local: Path):
    (local / "tmp" / NAME).mkdir(mode=0o755)
    assert daemon_sockets({"XDG_RUNTIME_DIR": os.fspath(given)}) == [
        given / "carbonmon" / "daemon.sock",
        local / "shm" / NAME / "daemon.sock",
        rendezvous.NODE_SOCKET,
    ]
    assert not (given / "carbonmon").exists(), "looking makes nothing"


def test_a_job_of_the_same_pid_in_another_container_keeps_its_socket(given: Path):
    environ = {"XDG_RUNTIME_DIR": os.fspath(given)}
    with closing(listening_at(given / "carbonmon" / f"run-job-{os.getpid()}.sock")) as other:
        path = job_socket(environ)
        assert path.name.startswith(f"run-job-{os.getpid()}-")
        assert Path(other.getsockname()).exists()

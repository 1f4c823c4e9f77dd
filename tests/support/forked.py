"""Commands forked from a process that has imported them all: for tables of many whose words are asserted.

To import is most of what such a command costs. What a start does and costs is tested with real starts.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from tests.support import command

TREE = Path(__file__).resolve().parents[2]
MOST_BYTES = 1 << 17
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from tests.support import forked; forked.serve(int(sys.argv[2]))"
)


class Child:
    """A command that runs; the parts of `subprocess.Popen` that are asked for."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.pid = int(connection.recv(MOST_BYTES))
        self._code: int | None = None

    def send_signal(self, number: int) -> None:
        if self._code is None:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float = command.DEADLINE_S) -> int:
        """Its exit code, or the negative signal that ended it; raises `TimeoutError`."""
        if self._code is None:
            self._connection.settimeout(timeout_s)
            self._code = int(self._connection.recv(MOST_BYTES))
        return self._code


class Forked:
    """One process with all commands in it. They run one after the other."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(TREE), str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )

    def __enter__(self) -> Forked:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.close()
        self._server.wait(command.DEADLINE_S)

    def start(
        self, arguments: Sequence[str], folder: Path, env: Mapping[str, str], files: list[int]
    ) -> Child:
        """Start `carbonmon` with this whole environment, its input, output and errors."""
        request = {"arguments": [command.CARBONMON, *arguments], "folder": str(folder), "env": dict(env)}
        socket.send_fds(self._ours, [json.dumps(request).encode()], files)
        return Child(self._ours)

    def run(
        self, arguments: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Like `command.run`."""
        whole = command.environ(**{"CARBONMON_LISTEN": "127.0.0.1:0", **(env or {})})
        with (
            open(os.devnull) as nothing,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
        ):
            child = self.start(arguments, folder, whole, [nothing.fileno(), out.fileno(), err.fileno()])
            try:
                code = child.wait()
            except TimeoutError:
                child.send_signal(signal.SIGKILL)
                raise
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(arguments), code, out.read(), err.read())


class Started:
    """The same with a real start of each: for an installed release, whose commands are not this tree's."""

    def start(
        self, arguments: Sequence[str], folder: Path, env: Mapping[str, str], files: list[int]
    ) -> subprocess.Popen[bytes]:
        stdin, stdout, stderr = files
        words = [command.CARBONMON, *arguments]
        return subprocess.Popen(words, cwd=folder, env=dict(env), stdin=stdin, stdout=stdout, stderr=stderr)

    def run(
        self, arguments: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return command.run(arguments, folder, env=env)


@contextmanager
def commands() -> Iterator[Forked | Started]:
    """What starts the commands under test."""
    if "CARBONMON_TEST_COMMAND" in os.environ:
        yield Started()
    else:
        with Forked() as forked:
            yield forked


def serve(descriptor: int) -> None:
    """Fork for each request; tell the child's pid, then its exit code."""
    connection = socket.socket(fileno=descriptor)
    from carbonmon.__main__ import main
    from carbonmon.cli.group import _COMMANDS

    for name in _COMMANDS:
        importlib.import_module(f"carbonmon.cli.{name}")
    gc.freeze()  # no child looks for garbage in what all of them share
    while True:
        request, files, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
        if not request:
            return
        child = os.fork()
        if child == 0:
            connection.close()
            _become(json.loads(request), files)
            _end(main)
        for file in files:
            os.close(file)
        connection.send(str(child).encode())
        _, status = os.waitpid(child, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, object], files: Sequence[int]) -> None:
    """Take what a process has from its start: a folder, an environment, arguments and three files."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(str(request["folder"]))
    env, arguments = request["env"], request["arguments"]
    assert isinstance(env, dict) and isinstance(arguments, list)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = arguments
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]  # a TextIOWrapper


def _end(main: Callable[[], None]) -> NoReturn:
    """Run it and end as Python does, without taking apart what was imported."""
    code = 1
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException:  # noqa: BLE001 (whatever it is, Python would print it)
        traceback.print_exc()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

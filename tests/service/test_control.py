"""The monitor's local socket: whatever comes in, the sender hears what was wrong and the service goes on."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from carbonmon.client import rendezvous
from carbonmon.client.protocol import MAX_MESSAGE_BYTES
from carbonmon.core.errors import ConfigError
from carbonmon.service.socket import listener, peer, users
from carbonmon.service.socket import server as control
from carbonmon.service.socket.peer import Peer
from carbonmon.service.socket.request import RequestError
from carbonmon.service.socket.server import ControlServer

DEADLINE_S = 20.0
NOBODY = 65534


class Echo:
    """A handler that remembers, answers with what it heard, and fails as it is told to."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.left: list[Peer] = []
        self.peers: list[Peer] = []
        self.answers: list[Callable[[dict[str, Any]], None]] = []

    def handle(self, peer: Peer, message: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        self.heard.append(message)
        self.peers.append(peer)
        if message["op"] == "echo":
            answer({"echo": message.get("text")})
        elif message["op"] == "later":
            self.answers.append(answer)
        elif message["op"] == "bug":
            raise ZeroDivisionError("a bug")
        elif message["op"] == "gone":
            raise ModuleNotFoundError("No module named 'carbonmon.service.registry'")
        elif message["op"] == "unfit":
            answer({"value": float("nan")})
        elif message["op"] == "long":
            answer({"text": "x" * 300_000})
        else:
            raise RequestError(f"op {message['op']!r} is unknown", hint="echo")

    def on_disconnect(self, peer: Peer) -> None:
        self.left.append(peer)


class Caller:
    """A raw connection to the socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(os.fspath(path))
        self._lines = self.socket.makefile("rb")

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, **message: Any) -> dict[str, Any]:
        self.say(json.dumps({"v": 1, "id": 1, **message}).encode() + b"\n")
        return self.hear()

    def hear(self) -> dict[str, Any]:
        line = self._lines.readline()
        assert line, "the connection was closed without a word"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def is_closed(self) -> bool:
        with suppress(ConnectionResetError):
            return self._lines.read(1) == b""
        return True

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


@contextmanager
def calling(path: Path) -> Iterator[Caller]:
    caller = Caller(path)
    try:
        yield caller
    finally:
        caller.close()


@contextmanager
def serving(path: Path, handler: Echo, **options: Any) -> Iterator[ControlServer]:
    server = ControlServer(path, handler, **options)
    server.start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "m.sock"


@pytest.fixture
def server(path: Path, echo: Echo) -> Iterator[ControlServer]:
    with serving(path, echo) as server:
        yield server


@pytest.fixture
def caller(server: ControlServer) -> Iterator[Caller]:
    with calling(server.path) as caller:
        yield caller


def until(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not come"
        time.sleep(0.002)


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child of this test starts no thread
        return os.fork()


# What a good caller gets


def test_a_request_with_an_id_is_answered_with_it(caller: Caller):
    assert caller.ask(op="echo", id="é1", text="'\"\n☃") == {"v": 1, "id": "é1", "ok": True, "echo": "'\"\n☃"}


def test_requests_are_answered_in_order_also_when_they_come_in_pieces(caller: Caller):
    lines = b"".join(json.dumps({"v": 1, "op": "echo", "id": n}).encode() + b"\n" for n in range(50))
    for begin in range(0, len(lines), 7):
        caller.say(lines[begin : begin + 7])
    assert [caller.hear()["id"] for _ in range(50)] == list(range(50))


def test_a_message_without_an_id_gets_no_answer(caller: Caller, echo: Echo):
    caller.say(b'{"v": 1, "op": "echo"}\n')
    assert caller.ask(op="echo", id=2)["id"] == 2
    assert len(echo.heard) == 2


def test_a_late_answer_from_another_thread_arrives_once(caller: Caller, echo: Echo):
    caller.say(b'{"v": 1, "op": "later", "id": 5}\n')
    until(lambda: echo.answers, "the request")

    def answer() -> None:
        echo.answers[0]({"n": 1})
        echo.answers[0]({"n": 2})

    thread = threading.Thread(target=answer)
    thread.start()
    thread.join()
    assert caller.hear() == {"v": 1, "id": 5, "ok": True, "n": 1}
    assert caller.ask(op="echo", id=6)["id"] == 6


def test_the_handler_knows_who_speaks(caller: Caller, echo: Echo):
    caller.ask(op="echo")
    peer = echo.peers[0]
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert peer.state is None


def test_an_answer_may_be_longer_than_a_message(caller: Caller):
    assert len(caller.ask(op="long")["text"]) == 300_000


# What is wrong with a message is said to its sender, and the next one is heard


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"hello\n", "not JSON"),
        (b"\xff\xfe\x00\n", "not JSON"),
        (b"\n", "not JSON"),
        (b"[" * 60_000 + b"\n", "not JSON"),
        (b'{"v": 1, "op": "echo", "n": ' + b"1" * 5000 + b"}\n", "not JSON"),
        (b"[1, 2]\n", "a JSON object"),
        (b'{"op": "echo", "id": 3}\n', "version None is unknown"),
        (b'{"v": 99, "op": "echo", "id": 3}\n', "version 99 is unknown"),
        (b'{"v": 1, "id": 3}\n', "no op"),
        (b'{"v": 1, "op": 7, "id": 3}\n', "no op"),
        (b'{"v": 1, "op": "dance", "id": 3}\n', "'dance' is unknown"),
        (b'{"v": 1, "op": "dance"}\n', "'dance' is unknown"),
        (b'{"v": 1, "op": "echo", "id": [3]}\n', "whole number or a text"),
        (b'{"v": 1, "op": "echo", "id": NaN}\n', "whole number or a text"),
        (b'{"v": 1, "op": "echo", "text": "' + b"x" * MAX_MESSAGE_BYTES + b'"}\n', "too long"),
        (b"x" * (5 * MAX_MESSAGE_BYTES) + b"\n", "too long"),
        (b'{"v": 1, "op": "bug", "id": 3}\n', "an internal error of carbonmon"),
        (b'{"v": 1, "op": "unfit", "id": 3}\n', "an internal error of carbonmon"),
    ],
)
def test_what_is_wrong_is_said_once_and_the_next_message_is_heard(caller: Caller, line: bytes, says: str):
    caller.say(line)
    answer = caller.hear()
    assert answer["ok"] is False
    assert says in answer["error"]
    if b'"id": 3' in line:
        assert answer["id"] == 3
    assert caller.ask(op="echo", id=2)["id"] == 2


def test_a_refusal_may_carry_more_than_its_text(caller: Caller):
    assert caller.ask(op="dance")["hint"] == "echo"


def test_the_end_in_the_middle_of_a_message_is_told_to_who_still_listens(caller: Caller, echo: Echo):
    caller.say(b'{"v": 1, "op": "echo"')
    caller.socket.shutdown(socket.SHUT_WR)
    assert "ended inside a message" in caller.hear()["error"]
    assert caller.is_closed()
    assert not echo.heard


def test_half_a_character_is_no_text_that_could_break_a_file(caller: Caller, echo: Echo):
    caller.say(b'{"v": 1, "op": "echo", "id": 1, "text": "a\\ud800b \\ud83d\\ude00"}\n')
    assert caller.hear()["echo"] == "a?b 😀"


def test_a_fault_of_the_handler_is_logged_with_its_traceback_once(
    caller: Caller, caplog: pytest.LogCaptureFixture
):
    for _ in range(3):
        assert "internal error" in caller.ask(op="bug")["error"]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info


def test_files_of_ours_that_went_while_it_runs_are_told_in_one_line(
    caller: Caller, caplog: pytest.LogCaptureFixture
):
    """A user removed or updated the environment: a module that only a message needs is not there any more."""
    assert "internal error" in caller.ask(op="gone")["error"]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "files are gone (No module named 'carbonmon.service.registry')" in record.getMessage()
    assert record.exc_info is None


# Who is let in


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's own are not."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_another_user_is_told_so_and_closed(public: Path, echo: Echo):
    with serving(public / "m.sock", echo, mode=0o666):
        assert _as_nobody(public / "m.sock").startswith("this monitor belongs to user 0; user 65534")
        assert not echo.heard
        with calling(public / "m.sock") as caller:
            assert caller.ask(op="echo")["ok"]


def test_everyone_is_let_in_where_that_is_meant(public: Path, echo: Echo):
    path = public / "made" / "m.sock"
    with serving(path, echo, mode=0o666, everyone=True):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
        assert _as_nobody(path) == ""
        assert echo.peers[0].uid == NOBODY


def test_a_user_who_connects_too_often_is_refused_and_nobody_else(
    public: Path, echo: Echo, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(users, "CONNECTS_HZ", 0.001)
    monkeypatch.setattr(users, "CONNECTS_BURST", 5.0)
    path = public / "m.sock"
    with serving(path, echo, mode=0o666, everyone=True):
        assert [_as_nobody(path) for _ in range(5)] == [""] * 5
        assert "connections a second" in _as_nobody(path)
        for _ in range(20):
            with calling(path) as caller:
                assert caller.ask(op="echo")["ok"]


def test_root_is_answered_while_another_user_connects_without_end(public: Path, echo: Echo):
    path = public / "m.sock"
    with serving(path, echo, mode=0o666, everyone=True):
        flood = fork()
        if flood == 0:
            try:
                os.setuid(NOBODY)
                while True:
                    with socket.socket(socket.AF_UNIX) as one:
                        one.setblocking(False)
                        with suppress(BlockingIOError):
                            one.connect(os.fspath(path))
            finally:
                os._exit(0)
        try:
            until(lambda: _is_admitted(path), "a first answer")
            for _ in range(20):
                with closing(rendezvous.connect(path, DEADLINE_S)) as connection:
                    connection.sendall(b'{"v": 1, "op": "echo", "id": 1}\n')
                    assert b'"ok":true' in connection.recv(4096).replace(b" ", b"")
        finally:
            os.kill(flood, signal.SIGKILL)
            os.waitpid(flood, 0)


def _as_nobody(path: Path) -> str:
    """The error that user nobody is answered with, "" for none."""
    reader, writer = os.pipe()
    child = fork()
    if child == 0:
        said = b"it could not even ask"
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with calling(path) as caller:
                with suppress(OSError):  # closed before the question was asked
                    caller.say(b'{"v": 1, "op": "echo", "id": 1}\n')
                said = str(caller.hear().get("error", "")).encode()
        finally:
            os.write(writer, said)
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as words:
        return words.read().decode()


def test_one_user_cannot_take_all_places(public: Path, echo: Echo):
    with serving(public / "m.sock", echo, mode=0o666, everyone=True) as server:
        server.max_connections = 1  # half of it is none
        assert "can have no more" in _as_nobody(public / "m.sock")
        with calling(public / "m.sock") as caller:
            assert caller.ask(op="echo")["ok"]


def test_who_locks_the_folder_keeps_no_monitor_from_its_socket(path: Path, echo: Echo):
    path.parent.mkdir()
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with serving(path, echo), calling(path) as caller:
        assert caller.ask(op="echo")["ok"]
    os.close(folder)
    assert not list(path.parent.iterdir())


def test_who_comes_when_all_places_are_taken_is_told_so(server: ControlServer):
    server.max_connections = 2
    with calling(server.path) as first, calling(server.path) as second:
        assert first.ask(op="echo")["ok"]
        assert second.ask(op="echo")["ok"]
        with calling(server.path) as third:
            assert "can have no more" in third.hear()["error"]
            assert third.is_closed()
        first.close()
        until(lambda: _is_admitted(server.path), "a free place")
        assert second.ask(op="echo")["ok"]


def _is_admitted(path: Path) -> bool:
    with calling(path) as caller, suppress(OSError):
        return caller.ask(op="echo")["ok"] is True
    return False


# Those who say too much, or hear too little


def test_ten_thousand_messages_slow_down_their_sender_and_nobody_else(server: ControlServer, echo: Echo):
    begin_s = time.monotonic()
    done = threading.Event()
    errors: list[str] = []

    def flood() -> None:
        with calling(server.path) as noisy:
            noisy.socket.settimeout(0.05)
            with suppress(TimeoutError):
                noisy.say(b'{"v": 1, "op": "echo", "text": "noise"}\n' * 10_000)
            noisy.socket.settimeout(DEADLINE_S)
            with suppress(AssertionError, OSError):
                errors.append(noisy.hear()["error"])
            done.set()

    thread = threading.Thread(target=flood)
    thread.start()
    with calling(server.path) as calm:
        while not done.wait(0.01):
            assert calm.ask(op="echo", text="calm")["ok"]
    thread.join()
    assert "too many messages" in errors[0]
    noise = sum(message["text"] == "noise" for message in echo.heard)
    elapsed_s = time.monotonic() - begin_s
    assert noise <= peer.BURST + peer.RATE_HZ * (elapsed_s + 1.0)


def test_between_the_messages_of_one_the_others_have_their_turn(server: ControlServer, echo: Echo):
    with calling(server.path) as noisy, calling(server.path) as calm:
        noisy.ask(op="echo")
        calm.ask(op="echo")
        held, free = threading.Event(), threading.Event()
        handle = echo.handle

        def hold(*arguments: Any) -> None:
            held.set()
            assert free.wait(DEADLINE_S)
            handle(*arguments)

        echo.handle = hold  # type: ignore[method-assign] # until both have spoken
        noisy.say(b'{"v": 1, "op": "echo", "text": "noise"}\n' * 1500)
        assert held.wait(DEADLINE_S)
        calm.say(b'{"v": 1, "op": "echo", "text": "calm", "id": 1}\n')
        free.set()
        assert calm.hear()["ok"]
        until(lambda: len(echo.heard) == 1503, "all of it")
    texts = [message.get("text") for message in echo.heard]
    assert texts.index("calm") < 1000


def test_nothing_is_lost_of_what_is_said_too_fast(
    caller: Caller, echo: Echo, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(control, "_PAUSE_S", 0.01)
    for number in range(2300):
        caller.say(b'{"v": 1, "op": "echo", "text": %d}\n' % number)
    caller.socket.shutdown(socket.SHUT_WR)
    until(lambda: echo.left, "the end")
    assert [message["text"] for message in echo.heard] == list(range(2300))


def test_who_does_not_read_its_answers_is_dropped_and_holds_up_nobody(server: ControlServer, echo: Echo):
    with calling(server.path) as deaf, calling(server.path) as other:
        with suppress(BrokenPipeError):  # dropped already
            for _ in range(8):
                deaf.say(b'{"v": 1, "op": "long", "id": 1}\n')
        until(lambda: echo.left, "the drop")
        assert other.ask(op="echo")["ok"]


# The end of a peer


def test_a_closed_connection_is_gone_once(server: ControlServer, echo: Echo):
    with calling(server.path) as caller:
        caller.ask(op="echo")
    until(lambda: echo.left, "gone")
    assert echo.left == echo.peers


def test_a_process_that_died_is_gone_although_its_child_holds_the_connection(
    server: ControlServer, echo: Echo
):
    holds, released = os.pipe()
    child = fork()
    if child == 0:
        with suppress(BaseException):
            caller = Caller(server.path)
            caller.ask(op="echo")
            if os.fork() == 0:
                os.close(released)
                os.read(holds, 1)  # until the test ends
            else:
                caller.say(b'{"v": 1, "op": "echo", "text": "the last word"}\n')
        os._exit(0)
    os.close(holds)
    os.waitpid(child, 0)
    until(lambda: echo.left, "gone")
    assert [peer.pid for peer in echo.left] == [child]
    assert echo.heard[-1]["text"] == "the last word"
    os.close(released)


def test_an_answer_to_one_who_is_gone_harms_nobody(server: ControlServer, echo: Echo):
    with calling(server.path) as caller:
        caller.say(b'{"v": 1, "op": "later", "id": 1}\n')
        until(lambda: echo.answers, "the request")
    until(lambda: echo.left, "gone")
    echo.answers[0]({"too": "late"})
    with calling(server.path) as caller:
        assert caller.ask(op="echo")["ok"]


# The socket's file


def test_the_socket_and_its_folder_are_for_us_alone(server: ControlServer):
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_mode_is_what_was_asked_for_whatever_the_umask(path: Path, echo: Echo, umask: int):
    before = os.umask(umask)
    try:
        with serving(path, echo, mode=0o660):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
    finally:
        os.umask(before)


def test_there_is_no_moment_with_wider_permissions(path: Path, echo: Echo, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    chmod = Path.chmod

    def watched(self: Path, mode: int) -> None:
        seen.append(stat.S_IMODE(self.stat().st_mode))
        chmod(self, mode)

    monkeypatch.setattr(listener.Path, "chmod", watched)
    before = os.umask(0)
    try:
        with serving(path, echo):
            assert seen == [0o600]
    finally:
        os.umask(before)


def test_a_socket_on_which_nobody_listens_is_replaced(path: Path, echo: Echo):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(os.fspath(path))
    with serving(path, echo), calling(path) as caller:
        assert caller.ask(op="echo")["ok"]
    assert not path.exists()


def test_a_socket_with_a_monitor_is_left_to_it(server: ControlServer, echo: Echo):
    with pytest.raises(ConfigError, match="another monitor listens"):
        ControlServer(server.path, echo).start()
    with calling(server.path) as caller:
        assert caller.ask(op="echo")["ok"]


def test_a_file_that_is_no_socket_is_not_removed(path: Path, echo: Echo):
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is no socket"):
        ControlServer(path, echo).start()
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_is_said_before_anything_is_made(tmp_path: Path, echo: Echo):
    path = tmp_path / ("x" * 120) / "m.sock"
    with pytest.raises(ConfigError, match="at most 107"):
        ControlServer(path, echo).start()
    assert not path.parent.exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, echo: Echo):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="no socket can be made"):
        ControlServer(tmp_path / "file" / "m.sock", echo).start()


def test_closing_leaves_a_socket_that_is_another_s(path: Path, echo: Echo):
    with serving(path, echo):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_what_was_answered_before_the_end_still_arrives(path: Path, echo: Echo):
    with serving(path, echo) as server, calling(path) as caller:
        caller.say(b'{"v": 1, "op": "later", "id": 1}\n')
        until(lambda: echo.answers, "the request")
        echo.answers[0]({"last": True})
        server.close()
        assert caller.hear()["last"] is True
        assert caller.is_closed()
        server.close()


def test_of_monitors_that_start_at_once_one_gets_the_socket(path: Path):
    handlers = [Echo() for _ in range(8)]
    servers = [ControlServer(path, handler) for handler in handlers]
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(os.fspath(path))
    refused: list[ConfigError] = []

    def start(server: ControlServer) -> None:
        try:
            server.start()
        except ConfigError as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 7
    with calling(path) as caller:
        assert caller.ask(op="echo")["ok"]
    for server in servers:
        server.close()
    assert sum(bool(handler.heard) for handler in handlers) == 1

"""Whatever a user says to the daemon's socket: an answer or a reason, no fault of ours, no file elsewhere."""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.client.protocol import MAX_ANSWER_BYTES, encode
from carbonmon.core.config import Config
from carbonmon.monitor.clock import SystemClock
from carbonmon.service import wiring
from carbonmon.service.registry import Registry
from carbonmon.service.socket.operations import Operations
from carbonmon.service.socket.request import FaultLog, handle_line
from tests.fuzz.strategies import ANY_JSON, TEXT
from tests.support.effort import examples

pytestmark = pytest.mark.timeout(300)

DEADLINE_S = 60.0
OWN_UID, OTHER_UID = os.geteuid(), 54321
OPS = (
    *("join", "find", "leave", "job", "phase", "window", "run_phase", "progress", "snapshot", "stopping"),
    *("register", "unregister", "status", "settings"),
)
NAMES = st.sampled_from(
    [
        *("mine", "..", ".", "../outside", "/tmp/outside", "a/b", "a\0b", "a\n", "", "x" * 65, "x" * 5000),
        *(".checkpoints.host.json", "-rf", "ünï", "mine-2", "{}", "slurm-4242", "last"),
    ]
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "run_id": NAMES,
    "key": NAMES,
    "default_id": NAMES,
    "name": NAMES | TEXT,
    "labels": st.dictionaries(
        TEXT | st.sampled_from(["team", "run_id", "job", "__name__"]), TEXT, max_size=3
    ),
    "pid": st.sampled_from([0, 1, -1, os.getpid(), 2**31, 2**32, 2**64]),
    "uid": st.sampled_from([0, OWN_UID, OTHER_UID, -1, 2**32]),
    "cgroup": st.sampled_from(["/", "..", "../../..", "/etc", "\0", "/proc/self", "x" * 5000]),
    "gpus": st.lists(TEXT | st.sampled_from(["0", "1", "GPU-1", "all", "none"]), max_size=3),
    "environ": st.dictionaries(st.sampled_from(["CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS"]), TEXT, max_size=2),
    "scheduler": NAMES,
    "scheduler_job_id": NAMES,
    "rank": st.integers(-1, 3),
    "local_size": st.integers(-1, 3),
    "named": st.booleans(),
    "wrapper": st.booleans(),
    "helper": st.booleans(),
    "idle": st.sampled_from(["exclusive", "proportional", "none", "x"]),
    "exit_code": st.integers(-1, 300),
    "signal": st.integers(-1, 70),
    "step": st.integers(-1, 10) | st.floats(),
    "at_s": st.floats(),
    "begin": st.integers(-1, 3),
    "end": st.integers(-1, 3),
    "window": st.integers(-1, 3),
    "command": st.lists(TEXT, max_size=3),
}


def _field(name: str) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just(name), FIELDS[name] | FIELDS[name] | ANY_JSON)


MESSAGES = st.builds(
    lambda op, fields, more: {"v": 1, "id": 1, **more, **dict(fields), "op": op},
    st.sampled_from(OPS) | TEXT,
    st.lists(st.sampled_from(sorted(FIELDS)).flatmap(_field), max_size=6),
    st.dictionaries(TEXT, ANY_JSON, max_size=1),
)


class Faults(FaultLog):
    """A fault of ours ends the test, where the service would go on."""

    def log_error(self, error: Exception) -> None:
        raise error


class Sender:
    """A connected process, of whom nothing but the kernel's word is known."""

    def __init__(self, uid: int) -> None:
        self.uid, self.pid, self.gid = uid, os.getpid(), uid
        self.state: Any = None
        self.heard: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        encode(message, MAX_ANSWER_BYTES)
        self.heard.append(message)


class Node:
    """A daemon's parts in this process; what it writes lies below a folder of its own."""

    def __init__(self, closing: ExitStack) -> None:
        self.folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="carbonmon-fuzz-")))
        self.output = self.folder / "runs"
        config = Config(
            region="DE",
            interval_s=0.05,
            output=self.output,
            sensors=("tdp",),
            exporters=("summary",),
            gpu_model="A100 SXM4 80GB:2",
        )
        self.monitor = wiring.build(config, {}, SystemClock(), closing, watching=True)
        assert self.monitor.sampling.start()
        self.monitor.recorder.start()
        closing.callback(self.monitor.leave)
        self.registry = Registry(self.monitor, config, OWN_UID, creates=True, once=False)
        self.operations = Operations(self.registry)
        self.records: list[logging.LogRecord] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = self.records.append  # type: ignore[method-assign]
        logging.getLogger("carbonmon").addHandler(handler)
        closing.callback(logging.getLogger("carbonmon").removeHandler, handler)

    def settle(self) -> None:
        """Wait until the sampling thread has done what was asked for."""
        done = threading.Event()
        self.monitor.requests.post(done.set)
        assert done.wait(DEADLINE_S)


_closing = ExitStack()
atexit.register(_closing.close)


@cache
def node() -> Node:
    return Node(_closing)


@pytest.fixture(scope="module", autouse=True)
def node_ends_with_these_tests() -> Iterator[None]:
    """Its threads would sample on beside all later tests of this process. A fuzzer has no fixtures."""
    yield
    node.cache_clear()
    _closing.close()


def said(uid: int, lines: list[bytes]) -> list[dict[str, Any]]:
    """What a user hears who says these lines over one connection, and then goes."""
    here, peer = node(), Sender(uid)
    here.operations._admission._begun.clear()  # so many runs a minute are none too many here
    for line in lines:
        handle_line(here.operations, peer, line, Faults())  # type: ignore[arg-type]
    here.settle()
    here.operations.on_disconnect(peer)  # type: ignore[arg-type]
    for entry in here.registry.entries:
        if not entry.ending:
            here.registry.end(entry)
    here.settle()
    return peer.heard


def check(lines: list[bytes], heard: list[dict[str, Any]]) -> None:
    here = node()
    assert len(heard) <= len(lines)
    for answer in heard:
        if not answer["ok"]:
            assert 0 < len(answer["error"]) < 1500, "short, whatever was said"
    bugs = [record for record in here.records if record.exc_info]
    assert not bugs, bugs[0].getMessage()
    assert {path.name for path in here.folder.iterdir()} <= {"runs"}
    for folder in here.output.iterdir() if here.output.exists() else ():
        assert folder.is_dir()
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{,79}", folder.name), "no name of a file of ours"
        assert folder.name != "last"


@given(st.sampled_from([OWN_UID, OTHER_UID]), st.lists(MESSAGES, min_size=1, max_size=4))
@examples(150)
def test_whatever_a_user_asks_for_the_answer_is_what_was_asked_or_a_reason(
    uid: int, messages: list[dict[str, Any]]
):
    lines = [json.dumps(message).encode() + b"\n" for message in messages]
    check(lines, said(uid, lines))


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=4))
@examples(150)
def test_whatever_bytes_come_the_sender_hears_a_reason(lines: list[bytes]):
    heard = said(OTHER_UID, lines)
    check(lines, heard)
    assert all(not answer["ok"] for answer in heard)


@given(NAMES, st.sampled_from(["run_id", "default_id", "key", "scheduler_job_id"]), st.booleans())
@examples(60)
def test_a_run_is_called_as_was_asked_or_refused_and_never_lies_elsewhere(name: str, key: str, joins: bool):
    message = {"v": 1, "id": 1, "op": "join" if joins else "register", key: name, "scheduler": "slurm"}
    lines = [json.dumps(message).encode() + b"\n"]
    heard = said(OTHER_UID, lines)
    check(lines, heard)
    (answer,) = heard
    if answer["ok"]:
        assert Path(answer["folder"]).parent == node().output

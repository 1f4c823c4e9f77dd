"""What a wrapper tells of the process that it has started."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from carbonmon.core.labels import MAX_USER_BYTES
from carbonmon.core.model import RunInfo
from carbonmon.core.ports import Roots
from carbonmon.service.registry import MAX_RUNS
from carbonmon.service.socket import fields
from carbonmon.service.socket.admission import Admission
from carbonmon.service.socket.operations import Operations
from carbonmon.service.socket.request import RequestError
from carbonmon.service.socket.users import reserved
from tests.support.records import run_info

LIVING, ENDED, FOREIGN = 42, 43, 44


class Machine:
    """A monitor of which only the processes count: one lives, one has ended, one is another user's."""

    def __init__(self) -> None:
        self.workload = self
        self.joined: list[Roots] = []

    def user_of(self, pid: int) -> int:
        if pid == ENDED:
            raise ProcessLookupError
        return 1000 if pid == LIVING else 1001

    def join(self, run_id: str, roots: Roots, rank: object) -> None:
        self.joined.append(roots)


def told(machine: Machine, **message: Any) -> list[Roots]:
    """What becomes of the message of a wrapper of user 1000."""
    answers: list[dict[str, Any]] = []
    peer = SimpleNamespace(uid=1000, pid=7, state=(SimpleNamespace(run_id="mine"), None))
    operations = Operations(SimpleNamespace(monitor=machine))  # type: ignore[arg-type]
    operations.handle(peer, {"op": "job", **message}, answers.append)  # type: ignore[arg-type]
    assert answers == [{}]
    return machine.joined


def test_a_job_belongs_to_the_run_and_what_stands_beside_it_does_not():
    machine = Machine()
    told(machine, pid=LIVING)
    told(machine, pid=LIVING, wrapper=True)
    assert machine.joined == [Roots(pids=(LIVING,)), Roots(wrappers=(LIVING,))]


def test_a_job_that_has_ended_already_is_no_mistake():
    assert told(Machine(), pid=ENDED) == []


def test_labels_have_room_for_a_kibibyte_in_all():
    assert fields.run_labels({"labels": {"a": "x" * 1000}}) == {"a": "x" * 1000}
    assert fields.run_labels({}) == {}
    with pytest.raises(RequestError, match="the labels have 1026 bytes together"):
        fields.run_labels({"labels": {"a": "x" * 1000, "b": "é" * 12}})


@pytest.mark.parametrize("name", ["run_id", "name", "job", "run.id", "__name__"])
def test_a_label_with_a_name_of_the_metrics_is_refused_whoever_sends_it(name: str):
    with pytest.raises(RequestError, match="a name that the metrics have already"):
        fields.run_labels({"labels": {"team": "vision", name: "x"}})


def test_a_user_s_labels_have_room_for_all_runs_that_are_shown_together():
    """A run that has ended stays in /metrics for a while: its labels count as those of the living do."""

    def info(number: int, uid: int) -> RunInfo:
        labels = (("note", "x" * 1000),)
        return run_info(f"run-{number}", labels=labels)._replace(uid=uid)

    most = MAX_USER_BYTES // 1004
    ended = [SimpleNamespace(info=info(number, 1000)) for number in range(most - 1)]
    other = SimpleNamespace(info=info(999, 1001))
    living = SimpleNamespace(run_id="run-living", uid=1000, plan=SimpleNamespace(info=info(500, 1000)))
    registry = SimpleNamespace(
        uid=0,
        is_full=False,
        entries=[living],
        monitor=SimpleNamespace(sampler=SimpleNamespace(latest=SimpleNamespace(runs=[*ended, other]))),
    )
    admission = Admission(registry)  # type: ignore[arg-type]
    user, root = (SimpleNamespace(uid=uid) for uid in (1000, 0))
    admission.check_room(user, 1000, {"note": "x" * 200})  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"of user 1000 in /metrics have \d+ bytes .* room for 65536"):
        admission.check_room(user, 1000, {"note": "x" * 500})  # type: ignore[arg-type]
    admission.check_room(user, 1000, {})  # type: ignore[arg-type]
    admission.check_room(user, 1001, {"note": "x" * 1000})  # type: ignore[arg-type]
    admission.check_room(root, 0, {"note": "x" * 1000})  # type: ignore[arg-type]


@pytest.mark.parametrize("accounts", [2, 5])
def test_accounts_together_leave_places_for_runs_that_root_registers(accounts: int):
    entries = [SimpleNamespace(run_id=f"run-{n}", uid=1000 + n % accounts) for n in range(MAX_RUNS)]
    registry = SimpleNamespace(uid=0, is_full=False, entries=[], monitor=None)
    admission = Admission(registry)  # type: ignore[arg-type]
    newcomer, root = (SimpleNamespace(uid=uid) for uid in (2000, 0))
    most = MAX_RUNS - reserved(MAX_RUNS)
    registry.entries = entries[: most - 1]
    admission.check_room(newcomer, 2000, {})  # type: ignore[arg-type]
    registry.entries = entries[:most]
    with pytest.raises(RequestError, match=f"users of this node have {most} runs here"):
        admission.check_room(newcomer, 2000, {})  # type: ignore[arg-type]
    admission.check_room(root, 2000, {})  # type: ignore[arg-type]
    registry.entries, registry.is_full = entries, True
    with pytest.raises(RequestError, match="the limit of 200 runs"):
        admission.check_room(root, 0, {})  # type: ignore[arg-type]


def test_a_process_of_somebody_else_is_refused():
    with pytest.raises(RequestError):
        told(Machine(), pid=FOREIGN)

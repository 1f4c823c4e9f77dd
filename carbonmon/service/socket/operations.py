"""Does each request on the socket. The format: `protocol.py`. Who may ask for what: `admission.py`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import absolute
from carbonmon.core.model import Rank, RunState
from carbonmon.core.ports import Roots
from carbonmon.core.windows import Key, Marks
from carbonmon.monitor.run_account import RunAccount
from carbonmon.service.entries import Entry, NewRun, Participant
from carbonmon.service.other_ranks import other_ranks
from carbonmon.service.registry import Registry, is_held
from carbonmon.service.socket import fields, reports
from carbonmon.service.socket.about import about
from carbonmon.service.socket.admission import Admission, Message, ProcessEnded
from carbonmon.service.socket.peer import Peer
from carbonmon.service.socket.request import RequestError
from carbonmon.service.socket.totals import heard_stop, last_words, tell_leaver, tell_totals

Answer = Callable[[dict[str, Any]], None]

JOB_FIELDS = ("scheduler", "scheduler_job_id")


class Operations:
    """The handler of the socket. A run is its owner's: nobody else but root may write into it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._monitor = registry.monitor
        self._admission = Admission(registry)
        self._ops: dict[str, Callable[[Peer, Message, Answer], None]] = {
            "join": self._join,
            "find": self._find,
            "leave": self._leave,
            "job": self._job,
            "phase": self._phase,
            "window": self._window,
            "run_phase": self._run_phase,
            "progress": self._progress,
            "snapshot": self._snapshot,
            "stopping": self._stopping,
            "register": self._register,
            "unregister": self._unregister,
            "status": self._status,
            "settings": self._settings,
        }

    def handle(self, peer: Peer, message: dict[str, Any], answer: Answer) -> None:
        op = message.get("op")
        action = self._ops.get(op) if isinstance(op, str) else None
        if action is None:
            raise RequestError(f"op {op!r:.40} is unknown; there are {', '.join(self._ops)}")
        action(peer, message, answer)

    def on_disconnect(self, peer: Peer) -> None:
        self._registry.waiting.discard(peer)
        part, peer.state = peer.state, None
        if part is not None:
            self._registry.lose(*part)

    # ---- participants ----

    def _join(self, peer: Peer, message: Message, answer: Answer) -> None:
        if peer.state is not None:
            raise RequestError("this connection takes part in a run already; leave it first")
        with self._registry.turn:
            self._join_now(peer, message, answer)

    def _join_now(self, peer: Peer, message: Message, answer: Answer) -> None:
        registry = self._registry
        asked = fields.optional_text(message, "run_id", 64)
        key = fields.optional_text(message, "key", fields.MAX_NAME)
        # If another user has a run with this id, the new run gets a number added.
        job = tuple(fields.optional_text(message, name, 64) or "" for name in JOB_FIELDS)
        if key is None:
            entry = registry.find(asked, peer.uid)
        else:
            entry = registry.find_launch(key, (job[0], job[1]), peer.uid)
        own = Roots(wrappers=(peer.pid,)) if message.get("wrapper") is True else Roots(pids=(peer.pid,))
        rank = _rank(message)
        local_size = fields.optional_count(message, "local_size") or 1
        is_known, is_helper = entry is not None, message.get("helper") is True
        if entry is None:
            if is_helper:
                raise RequestError("the run of this handle is over")
            if not registry.takes(fields.optional_text(message, "settings", 64)):
                raise RequestError("the run of this monitor is about to end", retry=True)
            if not registry.creates:
                self._admission.run(peer, message)  # raises the error with the reason
                raise self._admission.unknown_run(peer, message)
            new = self._admission.new_run(message, own)
            entry = self._begin(peer, new, peer.uid, "participants", answer)
        else:  # a launcher may give each rank GPUs of its own
            own = own._replace(gpus=self._admission.allocation(message, "proportional"))
        participant = registry.take_part(entry, local_size, rank is not None, is_helper)
        registry.waiting.discard(peer)
        peer.state = (entry, participant)
        if is_known:
            self._monitor.join(entry.run_id, own, rank)
            answer(self._run_fields(entry, begun=False))
        elif rank is not None:
            self._monitor.join(entry.run_id, Roots(), rank)
        if rank is not None and rank.rank is not None:
            entry.ranks.add(rank.rank)
        participant.key, participant.rank = key, rank
        self._adopt_ranks(peer, entry, participant)

    def _adopt_ranks(self, peer: Peer, entry: Entry, participant: Participant) -> None:
        """Count the ranks on this node that have not come by themselves, where they can be found."""
        key, rank = participant.key, participant.rank
        is_whole = len(entry.ranks) >= entry.expected or entry.ends_with != "participants"
        if is_whole or key is None or rank is None or not peer.pid:
            return
        for other in other_ranks(peer.pid, key, rank.rank):
            if other.rank.rank is None or other.rank.rank in entry.ranks:
                continue
            try:
                roots = self._admission.process(peer, other.pid)
            except RequestError:  # ended, or another user's
                continue
            gpus = self._monitor.allocation(None, other.environ, "proportional")
            entry.ranks.add(other.rank.rank)
            self._monitor.join(entry.run_id, roots._replace(gpus=gpus), other.rank)

    def _find(self, peer: Peer, message: Message, answer: Answer) -> None:
        entry = self._registry.find_around(peer.pid, peer.uid)
        answer({"run_id": None if entry is None else entry.run_id})

    def _leave(self, peer: Peer, message: Message, answer: Answer) -> None:
        entry, participant = self._participation(peer)
        self._adopt_ranks(peer, entry, participant)
        peer.state = None
        outcome = [fields.optional_count(message, key) for key in ("exit_code", "signal")]
        if self._registry.leave(entry, participant, *outcome):
            if self._registry.may_go_on:
                self._registry.waiting.add(peer)
            self._end(entry, message, answer, participant)
        else:
            notes = [] if is_held(entry) else self._registry.notes(entry)
            now_s = self._monitor.clock.now_s()
            leaver = partial(tell_leaver, entry, participant, answer, now_s, notes)
            self._monitor.look(entry.run_id, leaver)

    def _job(self, peer: Peer, message: Message, answer: Answer) -> None:
        """The process that a wrapper has started: it belongs to the run even if the wrapper is killed.

        One that has ended already is no mistake: a short job does that.
        """
        entry, _ = self._participation(peer)
        pid = fields.optional_count(message, "pid")
        if pid is not None and self._monitor.workload is not None:
            with suppress(ProcessEnded):
                roots = self._admission.process(peer, pid)
                if message.get("wrapper") is True:
                    roots = Roots(wrappers=roots.pids)
                self._monitor.join(entry.run_id, roots, None)
        answer({})

    def _phase(self, peer: Peer, message: Message, answer: Answer) -> None:
        entry, participant = self._participation(peer)
        participant.phase = fields.optional_text(message, "name", fields.MAX_NAME)
        begun, ended = (self._window_key(message, participant, key) for key in ("begin", "end"))
        forgotten = [(participant.serial, number) for number in fields.counts(message, "forget")]
        marks = Marks(begun, ended, forgotten)
        self._registry.tell_phases(entry, fields.optional_number(message, "at_s"), marks)
        answer({})

    def _window(self, peer: Peer, message: Message, answer: Answer) -> None:
        entry, participant = self._participation(peer)
        key = self._window_key(message, participant, "window")
        if key is None:
            raise RequestError("a window has a number")
        self._monitor.window(entry.run_id, key, lambda found: answer({"window": found}))

    def _window_key(self, message: Message, participant: Participant, key: str) -> Key | None:
        number = fields.optional_count(message, key)
        return None if number is None else (participant.serial, number)

    def _run_phase(self, peer: Peer, message: Message, answer: Answer) -> None:
        entry = self._admission.run(peer, message)
        entry.phase = fields.optional_text(message, "name", fields.MAX_NAME)
        self._registry.tell_phases(entry, fields.optional_number(message, "at_s"))
        answer({"run_id": entry.run_id})

    def _progress(self, peer: Peer, message: Message, answer: Answer) -> None:
        entry, participant = self._participation(peer)
        told = reports.told(message, entry, participant)
        at_s = self._monitor.clock.now_s() - (fields.optional_number(message, "age_s") or 0.0)
        self._monitor.progress(entry.run_id, told, at_s)
        answer({})

    def _snapshot(self, peer: Peer, message: Message, answer: Answer) -> None:
        entry, participant = self._participation(peer)
        self._monitor.look(entry.run_id, partial(tell_totals, entry, participant, answer))

    def _stopping(self, peer: Peer, message: Message, answer: Answer) -> None:
        """Whether training is to stop; takes no sample, as training code asks at each step."""
        entry, _ = self._participation(peer)
        answer(heard_stop(self._monitor.runs.get(entry.run_id)))

    # ---- registered runs ----

    def _register(self, peer: Peer, message: Message, answer: Answer) -> None:
        registry = self._registry
        if not registry.creates:
            raise RequestError("this monitor has one run and accepts no others")
        run_id = fields.optional_text(message, "run_id", 64)
        uid = fields.optional_count(message, "uid")
        if uid is not None and uid != peer.uid and peer.uid != 0:
            raise RequestError(f"only root may register a run of user {uid}")
        owner = peer.uid if uid is None else uid
        # Ids of schedulers can be guessed: another user's run with that id must not prevent this one.
        if run_id is not None and registry.has(run_id, owner):
            raise RequestError(f"run {run_id!r} is registered already: unregister it, or give another id")
        roots = self._admission.registered_roots(peer, message)
        ends_with: Any = "processes" if roots.pids or roots.cgroup is not None else "request"
        self._begin(peer, self._admission.new_run(message, roots), owner, ends_with, answer)

    def _unregister(self, peer: Peer, message: Message, answer: Answer) -> None:
        entry = self._admission.run(peer, message)
        if entry.ends_with == "job":
            raise RequestError(f"run {entry.run_id!r} ends with its job")
        self._end(entry, message, answer)

    def _status(self, peer: Peer, message: Message, answer: Answer) -> None:
        runs = [
            {
                "run_id": entry.run_id,
                "name": entry.plan.info.name,
                "uid": entry.uid,
                "participants": len(entry.participants),
                "folder": str(entry.plan.folder),
            }
            for entry in self._registry.entries
            if peer.uid in (0, self._registry.uid, entry.uid)
        ]
        answer({"runs": runs, "places": list(self._monitor.places), **about(self._registry)})

    def _settings(self, peer: Peer, message: Message, answer: Answer) -> None:
        """What this monitor was started with, for those who choose whether to have their run in it."""
        from carbonmon.service import settings

        told = settings.told(self._registry.config)
        is_own = peer.uid in (0, self._registry.uid)
        answer({"settings": told if is_own else settings.told_to_others(told)})

    # ---- what several of them do ----

    def _participation(self, peer: Peer) -> tuple[Entry, Participant]:
        if peer.state is None:
            raise RequestError("this connection takes part in no run: join first")
        part: tuple[Entry, Participant] = peer.state
        return part

    def _begin(self, peer: Peer, new: NewRun, uid: int, ends_with: Any, answer: Answer) -> Entry:
        self._admission.check_room(peer, uid, new.labels)
        try:
            entry = self._registry.create(new, uid, ends_with)
        except ConfigError as error:
            self._registry.refuse()
            raise RequestError(str(error)) from None
        self._monitor.begin(entry.plan, partial(answer, self._run_fields(entry, begun=True)))
        return entry

    def _run_fields(self, entry: Entry, *, begun: bool) -> dict[str, Any]:
        info, roots = entry.plan.info, entry.plan.roots
        return {
            "run_id": entry.run_id,
            "folder": str(absolute(entry.plan.folder)),
            "places": list(self._monitor.places),
            "begun": begun,
            "name": info.name,
            "labels": dict(info.labels),
            "idle": info.idle_policy,
            "gpus": roots.gpus is not None,
        }

    def _end(
        self, entry: Entry, message: Message, answer: Answer, participant: Participant | None = None
    ) -> None:
        exit_code, signal = (fields.optional_count(message, key) for key in ("exit_code", "signal"))
        said: dict[str, Any] = {"last": True, "run_id": entry.run_id, "goes_on": self._registry.may_go_on}
        said["folder"] = str(absolute(entry.plan.folder))

        def last(run: RunAccount, state: RunState) -> None:
            if participant is not None:
                said.update(last_words(run, state, entry, participant, self._monitor.clock.now_s()))

        def tell(summary: dict[str, Any] | None) -> None:
            notes = ((summary or {}).get("run") or {}).get("notes") or []
            answer({**said, "notes": notes, "summary": summary})

        self._registry.end(entry, exit_code, signal, tell, last)


def _rank(message: Message) -> Rank | None:
    rank = Rank(*(fields.optional_count(message, key) for key in Rank._fields))
    return None if rank == Rank(None, None, None) else rank

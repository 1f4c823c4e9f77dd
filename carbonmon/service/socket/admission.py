"""Who may ask a monitor for what: whose a run, a process and a cgroup is, and how many runs a user may have.

Everything that a peer says is checked here before it reaches the registry. Each method raises `RequestError`
with what is wrong and how to mend it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from carbonmon.core import labels as label_room
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import IDLE_POLICIES, IdlePolicy
from carbonmon.core.pacing import TokenBucket
from carbonmon.core.ports import Roots
from carbonmon.service.entries import Entry, NewRun
from carbonmon.service.registry import MAX_RUNS, Registry
from carbonmon.service.socket import fields
from carbonmon.service.socket.peer import Peer
from carbonmon.service.socket.request import RequestError
from carbonmon.service.socket.users import reserved

Message = Mapping[str, Any]

RUNS_A_MINUTE = 60.0
"""So many runs a user may begin in a minute, and so many at once: each has a folder, which stays, and series
in /metrics, which replace those of the ended runs of others."""


class ProcessEnded(RequestError):
    """The process that somebody names is not there any more."""


class Admission:
    """Checks what peers of a registry's monitor ask for."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._monitor = registry.monitor
        self._begun: dict[int, TokenBucket] = {}

    def run(self, peer: Peer, message: Message) -> Entry:
        """The living run that is asked for, if it is the peer's."""
        asked = fields.optional_text(message, "run_id", 64)
        entry = self._registry.find(asked, peer.uid)
        if entry is None:
            entry = self._registry.find(asked)
            if entry is None:
                raise self.unknown_run(peer, message)
            self._check_owner(peer, entry)
        return entry

    def unknown_run(self, peer: Peer, message: Message) -> RequestError:
        """The refusal of a run that is not here; it names the peer's own."""
        active = [entry for entry in self._registry.entries if not entry.ending]
        own = ", ".join(entry.run_id for entry in active if peer.uid in (0, entry.uid))
        known = f"there are: {own:.400}" if own else "you have no active runs"
        return RequestError(f"run {message.get('run_id')!r:.70} is not here; {known}")

    def _check_owner(self, peer: Peer, entry: Entry) -> None:
        if peer.uid not in (0, entry.uid):
            raise RequestError(f"run {entry.run_id!r} belongs to user {entry.uid}, and you are {peer.uid}")

    def registered_roots(self, peer: Peer, message: Message) -> Roots:
        """The processes or cgroup that a user registers: only their own, unless the user is root."""
        pid = fields.optional_count(message, "pid")
        cgroup = fields.optional_text(message, "cgroup", 4096)
        workload = self._monitor.workload
        if pid is not None and cgroup is not None:
            raise RequestError("give a pid or a cgroup, not both")
        if workload is None:
            raise RequestError("this monitor follows no processes")
        if pid is not None:
            return self.process(peer, pid)
        try:
            if cgroup is not None:
                path = workload.find_cgroup(cgroup)
                if peer.uid not in (0, path.stat().st_uid):
                    raise RequestError(f"the cgroup {cgroup!r} is not yours")
                return Roots(cgroup=path)
        except (OSError, ConfigError) as error:
            raise RequestError(str(error)) from None
        return Roots()

    def process(self, peer: Peer, pid: int) -> Roots:
        """A process of the peer's own, as a root."""
        assert self._monitor.workload is not None
        try:
            owner = self._monitor.workload.user_of(pid)
        except OSError:
            raise ProcessEnded(f"there is no process {pid}") from None
        if peer.uid not in (0, owner):
            raise RequestError(f"process {pid} is not yours")
        return Roots(pids=(pid,))

    def new_run(self, message: Message, roots: Roots) -> NewRun:
        """A run that is to begin, as the message describes it."""
        text, policy = fields.optional_text, self._registry.config.idle
        policy = fields.choice(message, "idle", IDLE_POLICIES, policy)
        run_id = text(message, "run_id", 64)
        is_named = message.get("named", True) is True
        key = text(message, "key", fields.MAX_NAME)
        return NewRun(
            name=text(message, "name", fields.MAX_NAME),
            run_id=run_id if is_named else None,
            key=key or run_id,
            default_id=text(message, "default_id", 64),
            command=fields.optional_texts(message, "command") or (),
            labels=fields.run_labels(message),
            scheduler=text(message, "scheduler", 64) or "",
            scheduler_job_id=text(message, "scheduler_job_id", 64) or "",
            nodes=fields.optional_count(message, "nodes") or 1,
            idle_policy=policy,
            roots=Roots(
                roots.pids,
                roots.wrappers,
                roots.cgroup,
                self.allocation(message, policy),
            ),
        )

    def allocation(self, message: Message, policy: IdlePolicy) -> Mapping[str, float] | None:
        """The GPUs that the sender was given, None if unknown."""
        gpus, environ = fields.optional_texts(message, "gpus"), fields.texts_by_name(message, "environ")
        try:
            return self._monitor.allocation(gpus, environ, policy)
        except ConfigError as error:
            raise RequestError(str(error)) from None

    def check_room(self, peer: Peer, uid: int, labels: Mapping[str, str]) -> None:
        """Raise `RequestError` where a user may have no more runs or labels, or the peer begins too many."""
        if self._registry.is_full:
            raise RequestError(f"the limit of {MAX_RUNS} runs is reached: unregister one first")
        others = sum(entry.uid not in (0, self._registry.uid) for entry in self._registry.entries)
        if peer.uid not in (0, self._registry.uid) and others >= MAX_RUNS - reserved(MAX_RUNS):
            raise RequestError(
                f"the users of this node have {others} runs here, and the other places are root's: wait, or "
                "measure without the daemon (carbonmon run --own-monitor)"
            )
        theirs = sum(entry.uid == uid for entry in self._registry.entries)
        if uid not in (0, self._registry.uid) and theirs >= MAX_RUNS // 2:
            raise RequestError(f"user {uid} has {theirs} runs and can have no more: unregister one first")
        size = label_room.size_bytes(labels.items())
        if uid not in (0, self._registry.uid) and size:
            size += self._shown_label_bytes(uid)
            if size > label_room.MAX_USER_BYTES:
                raise RequestError(
                    f"the labels of the runs of user {uid} in /metrics have {size} bytes with these, and a "
                    f"user has room for {label_room.MAX_USER_BYTES}: give fewer or shorter ones"
                )
        if not self._may_begin(peer.uid):
            raise RequestError(
                f"user {peer.uid} begins more than {RUNS_A_MINUTE:.0f} runs a minute: wait, or measure "
                "without the daemon (carbonmon run --own-monitor)"
            )

    def _shown_label_bytes(self, uid: int) -> int:
        """What the labels of a user's runs take that are in /metrics, or are about to be."""
        shown = {run.info.id: run.info for run in self._monitor.sampler.latest.runs}
        shown.update((entry.run_id, entry.plan.info) for entry in self._registry.entries)
        return sum(label_room.size_bytes(info.labels) for info in shown.values() if info.uid == uid)

    def _may_begin(self, uid: int) -> bool:
        """Whether a user may begin one more run now. Root may always, as a scheduler's prolog does."""
        if uid in (0, self._registry.uid):
            return True
        now_s = time.monotonic()
        full = TokenBucket(RUNS_A_MINUTE / 60.0, RUNS_A_MINUTE, now_s)
        return not self._begun.setdefault(uid, full).take(now_s)

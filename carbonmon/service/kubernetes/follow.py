"""Keeps the daemon's runs in step with the pods of its node.

What is wanted is compared with what the daemon says that it follows, again and again, so nothing depends on
an event that was missed: neither a restart of this program nor one of the daemon or the API server.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from carbonmon.client.connection import ANSWER_S, MonitorConnection, Refused
from carbonmon.client.launcher import safe_id
from carbonmon.client.protocol import ProtocolError
from carbonmon.client.rendezvous import connect
from carbonmon.core.errors import FetchError
from carbonmon.core.pacing import Backoff
from carbonmon.core.records import NamedTuple
from carbonmon.service.kubernetes.api import ApiServer, Expired
from carbonmon.service.kubernetes.groups import find_pod_group
from carbonmon.service.kubernetes.pod import Pod, parse_pod

log = logging.getLogger(__name__)

CONNECT_S = 2.0
TURN_S = 10.0
"""How often the daemon is asked for its runs where nothing happens …"""
WAITING_S = 1.0
"""… and how often a pod is looked for whose cgroup is not there yet."""

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0


class _Change(NamedTuple):
    """What the API server said: every pod that is to be metered (`uid` None), or one pod, None if it left."""

    uid: str | None
    pods: tuple[Pod, ...]


class Follower:
    """Registers the annotated pods of `api`'s node with the daemon at one of `sockets`; see `run`.

    `sysfs` is the host's /sys.
    """

    def __init__(self, api: ApiServer, sockets: Sequence[Path], sysfs: Path) -> None:
        self._api = api
        self._sockets = sockets
        self._sysfs = sysfs
        self._changes: queue.SimpleQueue[_Change | Exception] = queue.SimpleQueue()
        self._pods: dict[str, Pod] = {}
        self._runs: dict[str, str] = {}
        self._done: set[str] = set()
        self._told: set[str] = set()
        self._link: MonitorConnection | None = None
        self._listed = False

    def run(self) -> None:
        """Follow the pods until a signal ends the process. In the main thread."""
        threading.Thread(target=self._listen, name="carbonmon-pods", daemon=True).start()
        waiting = False
        while True:
            with suppress(queue.Empty):
                self._note(self._changes.get(timeout=WAITING_S if waiting else TURN_S))
                while True:
                    self._note(self._changes.get_nowait())
            waiting = self._listed and self._turn()

    # ---- what the API server says ----

    def _listen(self) -> None:
        """List, then watch, for ever. In a thread of its own."""
        retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while True:
            try:
                documents, version = self._api.pods()
                self._changes.put(_Change(None, tuple(filter(None, map(parse_pod, documents)))))
                while True:
                    for kind, document, new in self._api.watch(version):
                        version = new or version
                        if kind:
                            self._changes.put(_change(kind, document))
                    retry.reset()
                    _pause(FIRST_RETRY_S)
            except Expired:
                pass
            except FetchError as error:
                self._changes.put(error)
            # A fault of our own must end the program, which is then started anew, not only this thread.
            except Exception as error:  # noqa: BLE001
                self._changes.put(error)
                return
            _pause(retry.wait_s())

    def _note(self, change: _Change | Exception) -> None:
        if isinstance(change, FetchError):
            self._say_once("api", f"the pods of this node are not known for now: {change}")
        elif isinstance(change, Exception):
            raise change
        elif change.uid is None:
            self._pods = {pod.uid: pod for pod in change.pods}
            self._listed = True
            self._say_once("api", None)
        elif change.pods:
            self._pods[change.uid] = change.pods[0]
        else:
            self._pods.pop(change.uid, None)

    # ---- what the daemon is told ----

    def _turn(self) -> bool:
        """Bring the runs in step with the pods; whether something is waited for."""
        try:
            link, known = self._known()
            for uid in list(self._runs):
                pod = self._pods.get(uid)
                if pod is not None and pod.ended:
                    self._end(link, uid, pod.exit_code)
                elif pod is None and find_pod_group(self._sysfs, uid) is None:
                    self._end(link, uid, None)  # while it has processes, a list that is behind may lack it
            settled = self._runs.keys() | self._done
            pending = [pod for pod in self._pods.values() if not pod.ended and pod.uid not in settled]
            groups = [(pod, find_pod_group(self._sysfs, pod.uid)) for pod in pending]
            for pod, group in groups:
                if group is not None:
                    self._begin(link, pod, group, known)
            self._say_once("daemon", None)
        except (OSError, ProtocolError) as error:
            self._say_once("daemon", f"pods wait for the daemon of this node: {error}")
            if self._link is not None:
                self._link.close()
                self._link = None
            return True
        self._done &= self._pods.keys()
        self._told &= self._pods.keys() | {"api", "daemon"}
        return any(group is None for _, group in groups)

    def _known(self) -> tuple[MonitorConnection, set[str]]:
        """The ids of the daemon's runs. A new connection takes up those that are pods' already."""
        link = self._link
        if link is None:
            link = connected(self._sockets)
        runs = [run for run in _ask(link, "status").get("runs") or () if isinstance(run, dict)]
        living = {str(run.get("run_id")) for run in runs}
        if self._link is None:
            # What this program knew before is gone with it, or with the daemon. A pod's run has its name,
            # and its owner: nobody else can put another in its place.
            places = {(run.get("name"), run.get("uid")): str(run.get("run_id")) for run in runs}
            owners = {uid: (pod.title, _owner(pod)) for uid, pod in self._pods.items()}
            self._runs = {uid: places[owner] for uid, owner in owners.items() if owner in places}
            self._link = link
        for uid in [uid for uid, run_id in self._runs.items() if run_id not in living]:
            del self._runs[uid]
            if find_pod_group(self._sysfs, uid) is not None:
                self._done.add(uid)  # somebody has ended it by hand, and means it
        return link, living

    def _begin(self, link: MonitorConnection, pod: Pod, group: str, known: set[str]) -> None:
        """Register a pod; one that is refused is tried again in the next turn."""
        labels = {
            "k8s.node.name": self._api.node,
            "k8s.namespace.name": pod.namespace,
            "k8s.pod.name": pod.name,
            "k8s.pod.uid": pod.uid,
        }
        message = {
            "name": pod.title,
            "cgroup": group,
            "labels": labels | ({"k8s.job.name": pod.job} if pod.job else {}),
            "scheduler": "kubernetes",
            "scheduler_job_id": f"{pod.namespace}/{pod.job or pod.name}",
            "nodes": pod.nodes,
            "uid": _owner(pod),
        }
        reason = "its run ids are taken"
        # A second pod of a run on this node is a run of its own, with the pod's name behind; where a user has
        # taken both ids, it gets a number as well.
        own = safe_id(f"{pod.run_id}.{pod.name}")
        for run_id in (pod.run_id, own):
            if run_id in known and run_id != own:
                continue
            try:
                answer = _ask(link, "register", **message, run_id=run_id)
            except Refused as error:
                reason = str(error)
                continue
            self._runs[pod.uid] = str(answer.get("run_id"))
            known.add(self._runs[pod.uid])
            self._say_once(pod.uid, None)
            log.info("pod %s is run %s", pod.title, self._runs[pod.uid])
            return
        self._say_once(pod.uid, f"pod {pod.title} cannot be followed: {reason}")

    def _end(self, link: MonitorConnection, uid: str, exit_code: int | None) -> None:
        run_id = self._runs[uid]
        try:
            _ask(link, "unregister", run_id=run_id, exit_code=exit_code)
            log.info("run %s has ended with its pod", run_id)
        except Refused as error:  # it has ended by itself meanwhile: its last process was gone
            log.debug("run %s: %s", run_id, error)
        del self._runs[uid]
        self._done.add(uid)

    def _say_once(self, what: str, trouble: str | None) -> None:
        """Warn of a trouble when it begins; None says that it is over."""
        if trouble is None:
            self._told.discard(what)
        elif what not in self._told:
            self._told.add(what)
            log.warning("%s", trouble)


def connected(sockets: Sequence[Path]) -> MonitorConnection:
    """A connection to the daemon at the first of these places that answers; raises OSError."""
    reasons = []
    for path in sockets:
        try:
            connection = connect(path, CONNECT_S)
        except OSError as error:
            reasons.append(f"{path}: {error.strerror or error}")
            continue
        return MonitorConnection(path, connection, {})
    raise ConnectionError("; ".join(reasons))


def _change(kind: str, document: dict[str, Any]) -> _Change:
    pod = None if kind == "DELETED" else parse_pod(document)
    metadata = document.get("metadata")
    uid = metadata.get("uid") if isinstance(metadata, dict) else None
    return _Change(str(uid), () if pod is None else (pod,))


def _owner(pod: Pod) -> int:
    """The owner that a pod's run gets: only root may give one to others."""
    user = os.geteuid()
    return pod.owner if user == 0 else user


def _ask(link: MonitorConnection, op: str, **message: Any) -> dict[str, Any]:
    known = {key: value for key, value in message.items() if value is not None}
    return link.request({"op": op, **known}, ANSWER_S)


def _pause(seconds: float) -> None:
    time.sleep(seconds * random.uniform(0.5, 1.0))  # not all nodes at once

"""What a pod says of its run: annotations, and what its status tells of its end. Pure.

carbonmon.io/run-id   meter this pod as part of this run; empty: as its job's, else under its own name
carbonmon.io/nodes    on how many nodes the run is, if it is more than one
"""

from __future__ import annotations

import re
from typing import Any

from carbonmon.client.launcher import safe_id
from carbonmon.core.records import NamedTuple

RUN_ANNOTATION = "carbonmon.io/run-id"
NODES_ANNOTATION = "carbonmon.io/nodes"

JOB_LABELS = (
    "jobset.sigs.k8s.io/jobset-name",
    "training.kubeflow.org/job-name",
    "batch.kubernetes.io/job-name",
    "job-name",
)
"""Where controllers write the name of the job that a pod is part of, the outermost first."""

_UID = re.compile(r"[A-Za-z0-9-]{1,64}")
"""It becomes part of a path."""


class Pod(NamedTuple):
    """A pod that is to be metered. `owner` is the user of its processes if its spec says so, else root."""

    uid: str
    namespace: str
    name: str
    run_id: str
    job: str
    nodes: int
    owner: int
    ended: bool
    exit_code: int | None

    @property
    def title(self) -> str:
        """What the run is called: there are no two such pods at a time."""
        return f"{self.namespace}/{self.name}"


def parse_pod(document: Any) -> Pod | None:
    """A pod as the API has it; None if it does not ask to be metered, or is no pod."""
    metadata = _object(document, "metadata")
    annotations = _object(metadata, "annotations")
    uid, namespace, name = (metadata.get(key) for key in ("uid", "namespace", "name"))
    asked = annotations.get(RUN_ANNOTATION)
    if not (isinstance(asked, str) and isinstance(namespace, str) and isinstance(name, str)):
        return None
    if not isinstance(uid, str) or _UID.fullmatch(uid) is None:
        return None
    labels = _object(metadata, "labels")
    job = next((labels[key] for key in JOB_LABELS if isinstance(labels.get(key), str)), "")
    nodes = annotations.get(NODES_ANNOTATION)
    status = _object(document, "status")
    ended = status.get("phase") in ("Succeeded", "Failed")
    return Pod(
        uid=uid,
        namespace=namespace,
        name=name,
        run_id=safe_id(asked.strip() or job or name),
        job=job,
        nodes=int(nodes) if isinstance(nodes, str) and re.fullmatch(r"[1-9][0-9]{0,5}", nodes) else 1,
        owner=_owner(_object(document, "spec")),
        ended=ended,
        exit_code=_exit_code(status) if ended else None,
    )


def _owner(spec: dict[str, Any]) -> int:
    """The user that the first container runs as; a container's word goes before the pod's."""
    containers = spec.get("containers")
    first = containers[0] if isinstance(containers, list) and containers else {}
    for place in (first, spec):
        user = _object(place, "securityContext").get("runAsUser")
        if type(user) is int and 0 <= user < 1 << 32:
            return user
    return 0


def _exit_code(status: dict[str, Any]) -> int | None:
    """The first exit code that is not 0, else 0; None where none is known, as after an eviction."""
    codes = []
    for kind in ("initContainerStatuses", "containerStatuses"):
        found = status.get(kind)
        for container in found if isinstance(found, list) else ():
            code = _object(_object(container, "state"), "terminated").get("exitCode")
            if type(code) is int and code >= 0:
                codes.append(code)
    return next((code for code in codes if code), 0) if codes else None


def _object(document: Any, key: str) -> dict[str, Any]:
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, dict) else {}

"""Where the kubelet puts the cgroup of a pod.

Sources: pkg/kubelet/cm/pod_container_manager_linux.go and cgroup_manager_linux.go of Kubernetes. Below the
kubelet's root (--cgroup-root) there is `kubepods`, in it a group for each QoS class but Guaranteed, in that
one for each pod, and in that one for each container:

    driver cgroupfs   kubepods/burstable/podUID/ID
    driver systemd    kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/RUNTIME-ID.scope

where the hyphens of the UID are underscores, and the names of a root /kubelet stand before each slice's.
"""

from __future__ import annotations

import os
from pathlib import Path

from carbonmon.hardware.workload.cgroup import MOUNTS, Cgroup, cpu_seconds

QOS_CLASSES = ("burstable", "besteffort")
DEEPEST = 5
"""Levels from the hierarchy's root to a pod: one or two of the kubelet's, kubepods, QoS class, pod."""


def find_pod_group(sysfs: Path, uid: str) -> str | None:
    """The path of a pod's cgroup as /proc/PID/cgroup shows it, None while it has no process.

    It is the pod's own, with all of its containers and their sandbox, and accounts CPU time. `sysfs` is the
    host's /sys.
    """
    names = (f"pod{uid}", f"pod{uid.replace('-', '_')}.slice")
    base = sysfs / "fs" / "cgroup"
    for mount in MOUNTS:
        root = base / mount
        found = _search(root, names, DEEPEST)
        if found is not None and cpu_seconds(found) is not None and Cgroup(found).processes:
            return f"/{found.relative_to(root)}"
    return None


def _search(folder: Path, names: tuple[str, str], depth: int) -> Path | None:
    """The folder of this pod at most `depth` levels below, only where the kubelet puts pods."""
    try:
        with os.scandir(folder) as entries:
            inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it went meanwhile, or there is no such hierarchy
        return None
    for name in inner:
        # systemd's name of a slice begins with those of the slices above it
        if name == names[0] or name == names[1] or name.endswith(f"-{names[1]}"):
            return folder / name
    if depth > 1:
        for name in inner:
            if "kube" in name or name in QOS_CLASSES:
                found = _search(folder / name, names, depth - 1)
                if found is not None:
                    return found
    return None

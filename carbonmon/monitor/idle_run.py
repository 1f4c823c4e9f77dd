"""A run whose processes did next to nothing while the node worked: what it started runs elsewhere; pure."""

from __future__ import annotations

LEAST_S = 5.0
"""Shorter runs are not judged."""

MOST_OWN_CPUS, LEAST_NODE_CPUS = 0.01, 0.5
"""CPUs in use in the mean: at most so many by the run, and at least so many more by the node."""


def idle_note(duration_s: float, cpu_s: float | None, node_busy_s: float | None) -> str:
    """A line for people, "" where there is nothing to say or the CPU times (s) are unknown.

    A training process keeps a CPU busy even where GPUs do the work: it launches their kernels.
    """
    if cpu_s is None or node_busy_s is None or duration_s < LEAST_S:
        return ""
    is_idle = cpu_s <= MOST_OWN_CPUS * duration_s
    if not is_idle or node_busy_s - cpu_s < LEAST_NODE_CPUS * duration_s:
        return ""
    return (
        f"its processes used {cpu_s:.2g} s of CPU time in {duration_s:.0f} s, the node {node_busy_s:.0f} s: "
        "if its work ran under srun, docker or a cluster, it is not counted"
    )

"""Says where carbonmon belongs when a command starts its work elsewhere: not among the processes below it.

A run's processes are the command and all that come from it. Slurm's tasks are children of slurmstepd, containers
those of a daemon, jobs of a cluster those of another node: `carbonmon run` before such a command sees none of them.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence

from carbonmon.service.command_line import SUBCOMMANDS, look_behind

_REMOTE = "its work runs elsewhere, not below this command, and is not counted here"

_PLACES = {
    "srun": "srun's tasks are slurmstepd's children, not this command's, and are not counted here",
    "docker": "containers are their daemon's children, not this command's, and are not counted here",
    "nerdctl": "containers are their daemon's children, not this command's, and are not counted here",
    "podman": "containers leave this command's processes, and may not be counted here",
    "kubectl": "pods run on the cluster's nodes, and are not counted here",
    "sbatch": "the batch job runs later and elsewhere, and is not counted here",
    "qsub": "the batch job runs later and elsewhere, and is not counted here",
    "bsub": "the batch job runs later and elsewhere, and is not counted here",
    "flux": "Flux's tasks are its broker's children, not this command's, and are not counted here",
    "ray": "the job runs in the Ray cluster, and is not counted here",
    "ssh": _REMOTE,
}
"""Commands whose work is not among their processes, and why."""

_REMEDIES = {
    "docker": "put carbonmon into the image, or run carbonmon daemon on the node and register the container's cgroup",
    "nerdctl": "put carbonmon into the image, or run carbonmon daemon on the node and register the container's cgroup",
    "podman": "put carbonmon into the image, or run carbonmon daemon on the node and register the container's cgroup",
    "kubectl": "run carbonmon daemon on each node with carbonmon pods, or put carbonmon into the image",
    "sbatch": "put it into the script: carbonmon run -- python train.py",
    "qsub": "put it into the script: carbonmon run -- python train.py",
    "bsub": "put it into the script: carbonmon run -- python train.py",
    "ray": "run carbonmon daemon on each node of the cluster, or carbonmon run -- ray start --block there",
}
"""What to do where carbonmon cannot simply stand behind the command's own words."""

_MAX_SUGGESTION = 120


_CONTAINERS = frozenset(("docker", "nerdctl", "podman"))
"""Their work is on this node: a run that owns the node is charged with it."""


def unseen_note(command: Sequence[str], environ: Mapping[str, str], owns_node: bool = False) -> str:
    """A line that says why a command's work is not counted and where carbonmon belongs; "" if it is.

    `owns_node`: the run is charged with all of the node, whoever uses it.
    """
    target = look_behind(command)
    words = list(command)
    before: list[str] = []
    for place, program in enumerate((*target.wrappers, os.path.basename(target.program))):
        reason = _PLACES.get(program)
        behind = list(target.behind[place]) if place < len(target.behind) else []
        is_used = program not in SUBCOMMANDS or behind or not SUBCOMMANDS[program].isdisjoint(words)
        is_counted = "carbonmon" in target.wrappers[place:] or (owns_node and program in _CONTAINERS)
        if reason is not None and is_used and not is_counted:
            own = (
                words[: len(words) - len(behind)]
                if behind and words[len(words) - len(behind) :] == behind
                else []
            )
            return f"{reason}: {_remedy(program, [*before, *own], behind)}"
        if behind and words[len(words) - len(behind) :] == behind:
            before += words[: len(words) - len(behind)]
            words = behind
        elif behind:  # the words were inside one text: a shell's code
            before, words = [], behind
    address = environ.get("RAY_ADDRESS", "")
    if address and address != "local" and "ray" not in target.wrappers:
        return f"RAY_ADDRESS={address}: the workers of a Ray cluster that runs already are not counted here: {_REMEDIES['ray']}"
    return ""


def _remedy(program: str, before: Sequence[str], behind: Sequence[str]) -> str:
    """Where carbonmon belongs, with the user's own words where they are at hand."""
    said = _REMEDIES.get(program)
    if said is not None:
        return said
    inner = shlex.join(behind) if behind else "python train.py"
    outer = shlex.join(before) if before else f"{program} …"
    text = f"{outer} carbonmon run -- {inner}"
    return (
        text
        if len(text) <= _MAX_SUGGESTION
        else f"{program} … carbonmon run -- {behind[0] if behind else 'python'} …"
    )

"""Says where carbonmon belongs when a command starts its work elsewhere: not among the processes below it.

A run's processes are the command and all that come from it. Slurm's tasks are children of slurmstepd,
containers those of a daemon, jobs of a cluster those of another node: `carbonmon run` before such a command
sees none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from carbonmon.service.command_line import look_behind
from carbonmon.service.wrappers import SUBCOMMANDS

_TASKS = "are its own daemon's children, not this command's, and are not counted here"
_LATER = "the batch job runs later and elsewhere, and is not counted here"

_PLACES = {
    "srun": "srun's tasks are slurmstepd's children, not this command's, and are not counted here",
    "flux": f"Flux's tasks {_TASKS}",
    "docker": f"Docker's containers {_TASKS}",
    "nerdctl": f"containers {_TASKS}",
    "podman": "containers leave this command's processes, and may not be counted here",
    "kubectl": "pods run on the cluster's nodes, and are not counted here",
    "sbatch": _LATER,
    "qsub": _LATER,
    "bsub": _LATER,
    "ray": "the job runs in the Ray cluster, and is not counted here",
    "ssh": "its work runs on another machine, and is not counted here",
}
"""Commands whose work is not among their processes, and why."""

_INTO_IMAGE = "put carbonmon into the image, or run carbonmon daemon on the node and register the cgroup"
_INTO_SCRIPT = "put it into the script: carbonmon run -- python train.py"

_REMEDIES = {
    **dict.fromkeys(("docker", "nerdctl", "podman"), _INTO_IMAGE),
    **dict.fromkeys(("sbatch", "qsub", "bsub"), _INTO_SCRIPT),
    "kubectl": "run carbonmon daemon on each node with carbonmon pods, or put carbonmon into the image",
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
    before: list[str] = []
    words = list(command)
    for place, program in enumerate((*target.wrappers, PurePath(target.program).name)):
        behind = list(target.behind[place]) if place < len(target.behind) else []
        if behind and words[-len(behind) :] == behind:
            own = words[: -len(behind)]
        else:  # the command was within one word, the code of a shell
            own = words if not behind else []
            before = before if own else []
        before += own
        reason = _PLACES.get(program)
        is_used = bool(behind) or program not in SUBCOMMANDS or not SUBCOMMANDS[program].isdisjoint(words)
        is_counted = "carbonmon" in target.wrappers[place:] or (owns_node and program in _CONTAINERS)
        if reason is not None and is_used and not is_counted:
            return f"{reason}: {_remedy(program, before if own else [], behind)}"
        words = behind
    address = environ.get("RAY_ADDRESS", "")
    if address and address != "local":
        reason = "the workers of a Ray cluster that runs already are not counted here"
        return f"RAY_ADDRESS={address}: {reason}: {_REMEDIES['ray']}"
    return ""


def _remedy(program: str, before: Sequence[str], behind: Sequence[str]) -> str:
    """Where carbonmon belongs, with the user's own words where they are at hand."""
    import shlex

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

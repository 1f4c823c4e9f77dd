"""What a run is called: by the scheduler's job id, else by time and command; pure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from carbonmon.client.launcher import MAX_ID_LENGTH, safe_id, scheduler_job

_INTERPRETERS = re.compile(r"(python|pypy|bash|sh|torchrun|accelerate|deepspeed|mpirun|srun)[\d.]*")


def command_name(command: Sequence[str]) -> str:
    """A short name for a command: `train` for `python train.py --lr 1`."""
    end = command.index("-c") if "-c" in command else len(command)  # what follows -c is code, not a name
    words = [
        word for word in command[:end] if word and not word.startswith("-") and not re.search(r"\s", word)
    ]
    for word in words:
        stem = PurePath(word).name
        if _INTERPRETERS.fullmatch(stem) and len(words) > 1:
            continue
        return stem.removesuffix(".py").removesuffix(".sh") or stem or "run"
    return "run"


def kept_command(command: Sequence[str], is_redacted: bool) -> list[str]:
    """A command as it is kept with its run: without its arguments where they are secret."""
    return [*command[:1], "…"] if is_redacted else list(command)


def default_run_id(environ: Mapping[str, str], name: str, wall_s: float) -> str:
    """`slurm-4242`, or local time and name: `20261121-204109-train`; fit for a folder."""
    scheduler, job_id = scheduler_job(environ)
    if scheduler:
        return safe_id(f"{scheduler}-{job_id}")
    text = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(wall_s))}-{name}"
    return safe_id(re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:MAX_ID_LENGTH])

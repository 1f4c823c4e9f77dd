"""What a run is called: by the scheduler's job id, else by time and command; pure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from carbonmon.client.launcher import MAX_ID_LENGTH, safe_id, scheduler_job
from carbonmon.service.command_line import look_behind, short_name


def command_name(command: Sequence[str]) -> str:
    """A short name for a command: `train` for `timeout 60 torchrun --nproc-per-node 2 train.py --lr 1`."""
    return short_name(look_behind(command).program) or "run"


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

"""Finds the runs of an earlier daemon whose processes still run, so that they can be resumed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import Roots
from carbonmon.hardware.workload import NodeWorkload
from carbonmon.monitor.node import RunPlan
from carbonmon.runs import folders
from carbonmon.runs.checked import RunFileError, read_bytes
from carbonmon.runs.layout import CHECKPOINT_FILE
from carbonmon.runs.lock import has_monitor
from carbonmon.runs.reader import read_checkpoint
from carbonmon.service import run_folder

log = logging.getLogger(__name__)

LONGEST_CHECKPOINT_BYTES = 16 << 20
FOREIGN_TOLD = 3
"""So many folders of others are named in the log; there may be thousands."""


def unfinished(output: Path, boot_id: str, workload: NodeWorkload) -> list[RunPlan]:
    """The runs of this boot in a folder of runs that have not ended, have no monitor, and whose work goes on.

    After another boot nothing of them lives. A damaged one, and one that others have made, is said and left
    alone.
    """
    found = []
    foreign: list[str] = []
    for folder in sorted(_folders(output)) if boot_id else ():
        reason = folders.why_not_ours(folder)
        if reason:
            foreign += (
                [f"{folder.name!r:.80} ({reason})"] if os.path.lexists(folder / CHECKPOINT_FILE) else []
            )
            continue
        if not _may_go_on(folder, boot_id):
            continue
        try:
            plan = _plan(folder, boot_id, workload)
        except ConfigError as error:
            log.warning("a run of the previous daemon cannot be resumed: %s", error)
            continue
        if plan is not None and not has_monitor(folder):
            found.append(plan)
    if foreign:
        more = f" and {len(foreign) - FOREIGN_TOLD} more" if len(foreign) > FOREIGN_TOLD else ""
        told = ", ".join(foreign[:FOREIGN_TOLD])
        log.warning("in %s no run of ours is believed to be: %s%s", output, told, more)
    return found


def _folders(output: Path) -> list[Path]:
    try:
        return list(output.iterdir())
    except OSError:  # not there yet
        return []


def _may_go_on(folder: Path, boot_id: str) -> bool:
    """A quick look before the whole checkpoint is read: there may be thousands of runs that have ended."""
    try:
        text = read_bytes(folder / CHECKPOINT_FILE, LONGEST_CHECKPOINT_BYTES)
    except RunFileError:
        return False
    return b'"ended_at_s":null' in text and boot_id.encode() in text


def _plan(folder: Path, boot_id: str, workload: NodeWorkload) -> RunPlan | None:
    before = read_checkpoint(folder)
    run_folder.check_name(folder, before.snapshot.runs[0].info)
    (run,) = before.snapshot.runs
    point = run.resume_point
    if before.boot_id != boot_id or run.ended_at_s is not None or point is None:
        return None
    alive = [root for root in point.roots if workload.has_process(root[0], root[1])]
    groups = [Path(path) for path in point.cgroups if Path(path).is_dir()]
    ends_with = run.info.ends_with
    if ends_with == "job" or (ends_with != "request" and not alive and not groups):
        return None
    roots = Roots(
        pids=tuple(pid for pid, _, is_wrapper in alive if not is_wrapper),
        wrappers=tuple(pid for pid, _, is_wrapper in alive if is_wrapper),
        cgroup=groups[0] if groups else None,
        gpus=None if point.gpus is None else dict(point.gpus),
    )
    return RunPlan(run.info, folder, roots, before)

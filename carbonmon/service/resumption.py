"""Finds the runs that an earlier daemon left: some are resumed, of the others what is known is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import Roots
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.workload import NodeWorkload
from carbonmon.monitor.node import RunPlan
from carbonmon.runs import folders, summaries
from carbonmon.runs.checked import RunFileError
from carbonmon.runs.checkpoint_slots import has_checkpoint, newest_slot
from carbonmon.runs.lock import has_monitor
from carbonmon.runs.node_checkpoint import replay
from carbonmon.runs.reader import Checkpoint, read_checkpoint
from carbonmon.runs.summary.file import write_summary
from carbonmon.service import run_folder

log = logging.getLogger(__name__)

FOREIGN_TOLD = 3
"""So many folders of others are named in the log; there may be thousands."""


class Left(NamedTuple):
    """Runs without a monitor that have not ended: those whose work goes on, and those whose work is over."""

    living: list[RunPlan]
    over: list[RunPlan]


def unfinished(output: Path, boot_id: str, workload: NodeWorkload, together: Path | None = None) -> Left:
    """What was left in a folder of runs. After another boot nothing of a run lives.

    A damaged one, and one that others have made, is said and left alone. `together` is the file in which an
    earlier daemon kept the checkpoints of all runs: all are brought to its moment first.
    """
    found = Left([], [])
    brought = _brought(together) if together is not None and boot_id else {}
    for folder, before in brought.items():
        (run,) = before.snapshot.runs
        if run.ended_at_s is not None:
            log.warning("run %s ended just before the previous daemon did", run.info.id)
            found.over.append(RunPlan(run.info, folder, before=before))
    foreign: list[str] = []
    for folder in sorted(_folders(output)) if boot_id else ():
        reason = folders.why_not_ours(folder)
        if reason:
            foreign += [f"{folder.name!r:.80} ({reason})"] if has_checkpoint(folder) else []
            continue
        if not _has_no_end(folder, brought.get(folder)):
            continue
        try:
            plan = _plan(folder, brought.get(folder))
        except ConfigError as error:
            log.warning("a run of the previous daemon cannot be resumed: %s", error)
            continue
        if has_monitor(folder):
            log.warning("run %s is not resumed: another monitor writes it", plan.info.id)
            continue
        living = _living(plan, boot_id, workload)
        if living is not None:
            found.living.append(living)
        elif plan.info.ends_with != "job":  # else it is one of `carbonmon run`, whose job may go on
            found.over.append(plan)
    if foreign:
        more = f" and {len(foreign) - FOREIGN_TOLD} more" if len(foreign) > FOREIGN_TOLD else ""
        told = ", ".join(foreign[:FOREIGN_TOLD])
        log.warning("in %s no run of ours is believed to be: %s%s", output, told, more)
    return found


def recover(over: Sequence[RunPlan]) -> None:
    """Write the summaries of runs whose work is over, from their last checkpoints: they say "running"."""
    for plan in over:
        try:
            if not summaries.says_running(plan.folder):
                log.info("run %s is over, and has no summary that goes on", plan.info.id)
                continue
            write_summary(plan.folder, summaries.summary_of(plan.folder), plan.info.uid)
        except (ConfigError, OSError) as error:
            log.warning("what is known of run %s cannot be written: %s", plan.info.id, error)
            continue
        if plan.before is None or plan.before.snapshot.runs[0].ended_at_s is None:
            log.warning(
                "run %s ended while no daemon ran: what it drew since its last checkpoint is not known",
                plan.info.id,
            )


def _brought(together: Path) -> dict[Path, Checkpoint]:
    """The runs that are brought to the moment of the daemon's file, with their checkpoints by folder."""
    try:
        return replay(together)
    except ConfigError as error:
        log.warning("what the previous daemon knew of all runs is not used: %s", error)
        return {}


def _folders(output: Path) -> list[Path]:
    try:
        return list(output.iterdir())
    except OSError:  # not there yet
        return []


def _has_no_end(folder: Path, before: Checkpoint | None) -> bool:
    """A quick look before the whole checkpoint is read: there may be thousands of runs that have ended."""
    if before is not None:
        return before.snapshot.runs[0].ended_at_s is None
    try:
        return b'"ended_at_s":null' in newest_slot(folder).data
    except RunFileError:
        pass
    try:
        return has_checkpoint(folder) and summaries.says_running(folder)
    except RunFileError:
        return True


def _plan(folder: Path, before: Checkpoint | None) -> RunPlan:
    """A run as it was left; raises `ConfigError` for a damaged one, and for a copy."""
    before = before or read_checkpoint(folder)
    (run,) = before.snapshot.runs
    run_folder.check_name(folder, run.info)
    return RunPlan(run.info, folder, before=before)


def _living(plan: RunPlan, boot_id: str, workload: NodeWorkload) -> RunPlan | None:
    """The run with the processes and groups of it that are still there, None where its work is over."""
    assert plan.before is not None
    (run,) = plan.before.snapshot.runs
    point = run.resume_point
    if plan.before.boot_id != boot_id or run.ended_at_s is not None or point is None:
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
    return plan._replace(roots=roots)

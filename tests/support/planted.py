"""Folders of runs that a daemon left, and what others may plant in their place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carbonmon.core.model import EndsWith, ResumePoint
from carbonmon.runs import layout
from tests.fuzz.folders import a_snapshot, write
from tests.support import checkpoints


def left(output: Path, run_id: str = "job-1", ends_with: EndsWith = "processes") -> Path:
    """The folder of a run whose processes still run."""
    folder = output / run_id
    folder.mkdir(parents=True)
    snapshot = a_snapshot()
    (run,) = snapshot.runs
    point = ResumePoint(1.0, 2.0, 0.5, ((4242, 7, False),), (), None)
    info = run.info._replace(id=run_id, ends_with=ends_with)
    run = run._replace(info=info, ended_at_s=None, resume_point=point)
    write(folder, snapshot._replace(runs=(run,)))
    return folder


def other_owner(folder: Path, target: Path) -> None:
    os.chown(folder, 54321, 54321)


def other_owner_of_a_file(folder: Path, target: Path) -> None:
    os.chown(folder / layout.SERIES_FILE, 54321, 54321)


def open_to_all(folder: Path, target: Path) -> None:
    folder.chmod(0o777)


def link_to_a_folder(folder: Path, target: Path) -> None:
    elsewhere = target.with_name(f"outside-{folder.name}")
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def link_of(name: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, target: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return plant


def second_name_of(name: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, target: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.link(target, folder / name)

    return plant


def pipe_of(name: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, target: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return plant


def named(run_id: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, target: Path) -> None:
        for name, key in ((layout.RUN_FILE, "id"), (layout.CHECKPOINT_FILE, "run")):

            def rename(found: dict[str, Any], key: str = key) -> None:
                (found["run"] if key == "id" else found)[key] = run_id

            checkpoints.edit(folder / name, rename)

    return plant


NAMES = (*layout.FILES, layout.SUMMARY_FILE, "monitor.json")
PLANTED = [
    *(link_to_a_folder, open_to_all),
    *((other_owner, other_owner_of_a_file) if os.geteuid() == 0 else ()),
    *(make(name) for name in NAMES for make in (link_of, second_name_of, pipe_of)),
    *map(named, ("../../etc", "/etc/x", "..", "a/b", "job-1\n", "", "x" * 65, "job-2")),
]

"""Finds the summaries of runs, reads them and checks them against the schema."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carbonmon.core.documents import json_object
from carbonmon.core.records import NamedTuple
from carbonmon.runs import lookup
from carbonmon.runs.checked import RunFileError, read_bytes
from carbonmon.runs.layout import SUMMARY_FILE
from carbonmon.runs.lock import has_monitor
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.summary.document import SCHEMA, summarize
from carbonmon.runs.summary.validation import fault_of

LONGEST_SUMMARY_BYTES = 16 << 20


class Part(NamedTuple):
    """A run on one node: its summary, and its folder unless only a file was named."""

    summary: dict[str, Any]
    folder: Path | None


def find(run: str, output: Path, command: str = "report") -> Part:
    """The summary that `run` names: a run's folder, a file, or a run under the output.

    Raises `ConfigError` where there is none, or a damaged one.
    """
    place = lookup.named(run, output, command, takes_files=True)
    # os.path.isfile is False for what may not be looked at, where Path.is_file raises
    if os.path.isfile(place):  # noqa: PTH113
        return Part(ended_summary(place), None)
    return Part(summary_of(place), place)


def find_parts(run: str, output: Path, command: str = "report") -> list[Part]:
    """All nodes of a run: those in `OUTPUT/RUN_ID.HOST`, if `run` names no single run."""
    run_id, found = node_folders(run, output)
    nodes = [
        Part(summary, folder) for folder in found if (summary := summary_of(folder))["run"]["id"] == run_id
    ]
    return nodes or [find(run, output, command)]


def find_nodes(run: str, output: Path, command: str = "report") -> list[dict[str, Any]]:
    """The summaries of all nodes of a run."""
    return [part.summary for part in find_parts(run, output, command)]


def node_folders(run: str, output: Path) -> tuple[str, list[Path]]:
    """The id of the run that a word means, and the folders `OUTPUT/RUN_ID.HOST` of its nodes.

    Folders of other runs may be among them, and there are none for a single run.
    """
    try:
        if Path(run).exists() or (output / run).exists() or "/" in run:
            return run, []
        found = _beside(output, run)
        if not found:
            run = lookup.nodes(output, run) or run
            found = _beside(output, run)
    except (OSError, ValueError):  # a folder that cannot be listed has no nodes: `find` gives the error
        found = []
    return run, found


def _beside(output: Path, run_id: str) -> list[Path]:
    return sorted(path for path in output.iterdir() if path.name.startswith(f"{run_id}.") and path.is_dir())


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a run's folder: the final one if the run ended, else made from its last checkpoint."""
    # os.path.exists is False for a folder that may not be entered, where Path.exists raises
    summary = _read(folder / SUMMARY_FILE) if os.path.exists(folder / SUMMARY_FILE) else None  # noqa: PTH110
    if summary is not None and not _is_unfinished(summary):
        return _checked(folder / SUMMARY_FILE, summary)
    snapshot = read_checkpoint(folder).snapshot
    rebuilt = summarize(snapshot, snapshot.runs[0], "running" if has_monitor(folder) else "recovered")
    before = summary or {}
    if before.get("settled") and before["carbon"]["emissions_g"] == rebuilt["carbon"]["emissions_g"]:
        rebuilt["settled"] = before["settled"]  # settled after its monitor was killed: not in the checkpoint
    return rebuilt


def is_unseen(energy: Mapping[str, Any]) -> bool:
    """Whether nothing is known of the `energy` of a run that was metered, which is not 0 J.

    Then its amounts are null; releases until 0.2 wrote 0, with no device.
    """
    node = energy.get("node") or {}
    return not energy["total_j"] and not energy["devices"] and not node.get("total_j")


def says_running(folder: Path) -> bool:
    """Whether the written summary of a run says that it goes on, as one of a killed monitor does for ever.

    Raises `RunFileError`.
    """
    return not (folder / SUMMARY_FILE).exists() or _read(folder / SUMMARY_FILE).get("state") == "running"


def ended_summary(path: Path) -> dict[str, Any]:
    """The summary in a file of any name, for instance one that was copied from another node."""
    summary = _read(path)
    if _is_unfinished(summary) and "prometheus" not in summary:  # from Prometheus: there is no folder
        raise RunFileError(f"{path}: the run had not ended; give the run's folder, which has newer figures")
    return _checked(path, summary)


def _is_unfinished(summary: dict[str, Any]) -> bool:
    return summary.get("state") in ("running", "recovered")


def _read(path: Path) -> dict[str, Any]:
    summary = json_object(read_bytes(path, LONGEST_SUMMARY_BYTES), path, RunFileError)
    if "schema" not in summary:
        raise RunFileError(f"{path}: no file of carbonmon; give a run's folder, or its summary.json")
    if summary.get("schema") != SCHEMA:
        raise RunFileError(f"{path}: its schema is not {SCHEMA!r}: read it with the version that wrote it")
    return summary


def _checked(path: Path, summary: dict[str, Any]) -> dict[str, Any]:
    fault = fault_of(summary)
    if fault:
        raise RunFileError(f"{path}: damaged: {fault}")
    return summary

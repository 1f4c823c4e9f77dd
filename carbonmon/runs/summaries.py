"""The summaries of runs as files hold them: found, read, and checked against the schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from carbonmon.core.errors import ConfigError
from carbonmon.core.files import read_file
from carbonmon.core.typed import LARGEST
from carbonmon.runs import folders
from carbonmon.runs.checked import JournalError
from carbonmon.runs.layout import SUMMARY_FILE
from carbonmon.runs.reader import read_checkpoint
from carbonmon.runs.summary.document import SCHEMA, summarize
from carbonmon.runs.summary.file import SCHEMA_FILE
from carbonmon.runs.writer import is_watched

LONGEST_SUMMARY_BYTES = 16 << 20


def find(run: str, output: Path) -> dict[str, Any]:
    """The summary that a user's word means: of a run's folder, in a file, or of an id under the output.

    Raises `ConfigError` where there is none, or a damaged one.
    """
    path = Path(run)
    try:
        if path.name == SUMMARY_FILE:
            return summary_of(path.parent)
        if path.is_file():
            return ended_summary(path)
        folder = path if path.is_dir() else folders.find(output, run, "report")
    except (OSError, ValueError) as error:  # a name too long, or a folder that may not be entered
        raise ConfigError(f"report: {run!r:.60} cannot be looked up: {error}") from None
    return summary_of(folder)


def find_nodes(run: str, output: Path) -> list[dict[str, Any]]:
    """The summaries of all nodes of a run: those in `OUTPUT/RUN_ID.HOST`, if the word means no single run."""
    folders: list[Path] = []
    try:
        if not Path(run).exists() and not (output / run).exists() and "/" not in run:
            folders = sorted(
                path for path in output.iterdir() if path.name.startswith(f"{run}.") and path.is_dir()
            )
    except (OSError, ValueError):  # what cannot be listed has no nodes: `find` says what is wrong
        folders = []
    nodes = [summary for folder in folders if (summary := summary_of(folder))["run"]["id"] == run]
    return nodes or [find(run, output)]


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a run's folder: the final one if it ended, else made from its last checkpoint."""
    try:
        summary = _read(folder / SUMMARY_FILE)
    except FileNotFoundError:
        summary = None
    if summary is not None and not _goes_on(summary):
        return _checked(folder / SUMMARY_FILE, summary)
    snapshot = read_checkpoint(folder).snapshot
    rebuilt = summarize(snapshot, snapshot.runs[0], "running" if is_watched(folder) else "recovered")
    before = summary or {}
    if before.get("settled") and before["carbon"]["emissions_g"] == rebuilt["carbon"]["emissions_g"]:
        rebuilt["settled"] = before["settled"]  # after its monitor was killed, which no checkpoint knows
    return rebuilt


def ended_summary(path: Path) -> dict[str, Any]:
    """The summary in a file of any name, for instance one that was copied from another node."""
    summary = _read(path)
    if _goes_on(summary) and "prometheus" not in summary:  # there is no folder that knows more
        raise JournalError(f"{path}: of a run that had not ended: give the run's folder, which knows more")
    return _checked(path, summary)


def _goes_on(summary: dict[str, Any]) -> bool:
    return summary.get("state") in ("running", "recovered")


def _read(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(read_file(path, LONGEST_SUMMARY_BYTES))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{path}: damaged, not JSON: {error}") from None
    if not isinstance(summary, dict) or summary.get("schema") != SCHEMA:
        raise JournalError(f"{path}: its schema is not {SCHEMA!r}: read it with the version that wrote it")
    return summary


def _checked(path: Path, summary: dict[str, Any]) -> dict[str, Any]:
    rules = json.loads(SCHEMA_FILE.read_bytes())
    fault = _fault(summary, rules, rules["$defs"], "")
    if fault:
        raise JournalError(f"{path}: damaged: {fault}")
    return summary


_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
}


def _fault(value: Any, rule: dict[str, Any], definitions: dict[str, Any], where: str) -> str:
    """What breaks a rule of the summary's JSON Schema, "" if nothing does; only keywords that it uses."""
    if "$ref" in rule:
        rule = {**definitions[rule["$ref"].rpartition("/")[2]], **rule}
    if "anyOf" in rule:
        faults = [_fault(value, option, definitions, where) for option in rule["anyOf"]]
        return "" if "" in faults else faults[0]
    kinds = rule.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    if value is None and "null" in kinds:
        return ""
    wanted = [_TYPES[kind] for kind in kinds if kind != "null"]
    if kinds and (isinstance(value, bool) or not any(isinstance(value, kind) for kind in wanted)):
        return f"{where} must be of type {' or '.join(kinds)}"
    if "const" in rule or "enum" in rule:
        known = rule.get("enum", [rule.get("const")])
        return "" if value in known else f"{where} must be one of {', '.join(known)}"
    if isinstance(value, (int, float)):
        low, high = rule.get("minimum", -LARGEST), rule.get("maximum", LARGEST)
        return "" if low <= value <= high else f"{where} is no number from {low:g} to {high:g}"
    if isinstance(value, str):
        return "" if re.search(rule.get("pattern", ""), value) else f"{where} is no {rule.get('format')}"
    if isinstance(value, list):
        parts = ((f"{where}[{i}]", item, rule["items"]) for i, item in enumerate(value))
        return next(filter(None, (_fault(item, kind, definitions, at) for at, item, kind in parts)), "")
    missing = [key for key in rule.get("required", ()) if key not in value]
    if missing:
        return f"{where}.{missing[0]} is missing".lstrip(".")
    others = rule.get("additionalProperties", False)
    for key, item in value.items():
        kind = rule.get("properties", {}).get(key, others)
        at = f"{where}.{key}".lstrip(".")
        fault = _fault(item, kind, definitions, at) if kind else f"{at!r:.60} is unknown"
        if fault:
            return fault
    return ""

"""`carbonmon report`: the summary of a run, also of one whose monitor was killed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
from carbonmon_exporters.document import SCHEMA, summarize
from carbonmon_exporters.strings import encodable
from carbonmon_exporters.summary import FILE_NAME, SCHEMA_FILE
from carbonmon_exporters.text import table_text

from carbonmon import runfolder
from carbonmon.checked import LARGEST, JournalError
from carbonmon.cli import options
from carbonmon.errors import ConfigError
from carbonmon.files import read_file
from carbonmon.recovery import read_checkpoint
from carbonmon.runfiles import is_watched

LONGEST_SUMMARY_BYTES = 16 << 20


@click.command("report")
@options.with_options(*options.REPORT_OPTIONS)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What to print.",
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
def command(runs: tuple[str, ...], form: str, output: Path, **values: Any) -> None:
    """Print the summary of a run, also of one whose monitor was killed.

    RUN is a run's folder, its summary.json, or an id under the output folder.
    """
    options.set_up_log(values["log_level"], values["log_format"])
    try:
        summaries = [summary_of(_folder(run, output)) for run in runs]
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    if form == "json":
        document = summaries[0] if len(summaries) == 1 else summaries
        click.echo(encodable(json.dumps(document, indent=2, ensure_ascii=False)))
        return
    for summary in summaries:
        click.echo(table_text(summary), nl=False)


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary of a run's folder: the final one if it ended, else made from its last checkpoint."""
    path = folder / FILE_NAME
    summary = None
    try:
        summary = json.loads(read_file(path, LONGEST_SUMMARY_BYTES))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise JournalError(f"{path}: damaged, not JSON: {error}") from None
    else:
        if not isinstance(summary, dict) or summary.get("schema") != SCHEMA:
            raise JournalError(
                f"{path}: its schema is not {SCHEMA!r}: read it with the version that wrote it"
            )
    if summary is not None and summary.get("state") not in ("running", "recovered"):
        rules = json.loads(SCHEMA_FILE.read_bytes())
        fault = _fault(summary, rules, rules["$defs"], "")
        if fault:
            raise JournalError(f"{path}: damaged: {fault}")
        return dict(summary)
    snapshot = read_checkpoint(folder).snapshot
    return summarize(snapshot, snapshot.runs[0], "running" if is_watched(folder) else "recovered")


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


def _folder(run: str, output: Path) -> Path:
    path = Path(run)
    if path.name == FILE_NAME:
        return path.parent
    try:
        return path if path.is_dir() else runfolder.find(output, run, "report")
    except (OSError, ValueError) as error:  # a name too long, or a folder that may not be entered
        raise ConfigError(f"report: {run!r:.60} cannot be looked up: {error}") from None

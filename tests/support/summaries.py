"""Summaries of made-up runs, checked against the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

from carbonmon.core.model import Device, RunState, RunTotal, Snapshot
from carbonmon.runs.summary.document import summarize
from tests.support.records import (
    device_state,
    dram,
    gpu,
    package,
    run_info,
    run_state,
    run_total,
    snapshot,
)
from tests.support.strictness import strict_schema

SCHEMA = strict_schema()


VALIDATOR = jsonschema.Draft202012Validator(
    SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def of(shown: Snapshot, **options: Any) -> dict[str, Any]:
    """The summary of a snapshot's run, valid and as a reader gets it back from the file."""
    summary = summarize(shown, shown.runs[0], options.pop("state", "final"), **options)
    read = json.loads(json.dumps(summary, allow_nan=False))
    VALIDATOR.validate(read)
    return read


def with_rows(*rows: RunTotal, devices: tuple[Device, ...] = (), **options: Any) -> Snapshot:
    present = devices or (gpu(), package(), dram())
    return snapshot((run_state(totals=rows),), tuple(map(device_state, present)), **options)


def with_phases(*names: str) -> Snapshot:
    """A run with these phases beside main; the first has 1000 J, each next one 1 J more."""
    rows = [run_total(gpu().id, "gpu", "counter", 10.0)]
    rows += [
        run_total(gpu().id, "gpu", "counter", 1000.0 + number, phase=name)
        for number, name in enumerate(names or ("train",))
    ]
    seconds = (("main", 60.0), *((name, 30.0) for name in names or ("train",)))
    return snapshot((run_state(totals=tuple(rows), phases_s=seconds),), (device_state(gpu()),))


def read(folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    VALIDATOR.validate(summary)
    assert isinstance(summary, dict)
    return summary


def ended(run_id: str, ended_at_s: float = 1_795_003_600.0) -> RunState:
    return run_state(run_info(run_id), ended_at_s=ended_at_s, exit_code=0)

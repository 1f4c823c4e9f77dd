"""`carbonmon estimate` in the test's process: its result, its checked summary, and the energy of a part."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
from click.testing import CliRunner, Result

from carbonmon.analysis.estimate.loads import loads_of
from carbonmon.analysis.estimate.parts import part_of
from carbonmon.cli import main
from tests.support.strictness import strict_schema

VALIDATOR = jsonschema.Draft202012Validator(strict_schema())
A100 = "A100 SXM4 80GB"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["estimate", *arguments])


def summary_of(*arguments: str) -> dict[str, Any]:
    """The summary of an estimate, held against the schema."""
    done = invoke(*arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    summary: dict[str, Any] = json.loads(done.stdout)
    VALIDATOR.validate(summary)
    return summary


def kwh(**keys: Any) -> float:
    """The energy of a part with these keys, hyphens as underscores."""
    loads = loads_of(part_of({key.replace("_", "-"): value for key, value in keys.items()}))
    return sum(load.energy_j for load in loads) / 3.6e6

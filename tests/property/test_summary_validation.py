"""The checker of summaries says what a complete implementation of JSON Schema says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given

from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.file import SCHEMA_FILE
from carbonmon.runs.summary.text import table_text
from carbonmon.runs.summary.validation import KEYWORDS, fault_of
from tests.fuzz.folders import a_snapshot
from tests.fuzz.strategies import damaged_json, examples
from tests.strictness import strict_schema

RULES = json.loads(SCHEMA_FILE.read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(RULES)
SNAPSHOT = a_snapshot()
FINAL = summarize(SNAPSHOT, SNAPSHOT.runs[0], "final")
FOR_PEOPLE = {"$schema", "$id", "title", "description", "format"}


def keywords(rule: dict[str, Any]) -> set[str]:
    inner = [*rule.get("anyOf", ()), *rule.get("properties", {}).values(), *rule.get("$defs", {}).values()]
    inner += [rule[key] for key in ("items", "additionalProperties") if isinstance(rule.get(key), dict)]
    return set(rule).union(*map(keywords, inner))


def test_the_published_schema_is_open_to_new_fields():
    assert '"additionalProperties": false' not in SCHEMA_FILE.read_text()


def test_every_keyword_of_the_schema_is_interpreted_or_for_people_only():
    assert keywords(RULES) - FOR_PEOPLE <= KEYWORDS


def test_a_sound_summary_has_no_fault():
    assert fault_of(FINAL) == ""
    assert VALIDATOR.is_valid(FINAL)
    assert jsonschema.Draft202012Validator(strict_schema()).is_valid(FINAL), "every field is described"


def with_new_fields(value: Any) -> Any:
    """The same with a field that no version knows in every object whose keys are fixed."""
    if isinstance(value, list):
        return [with_new_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: with_new_fields(item) for key, item in value.items() if key not in OPEN}
    return {**value, **inner, "from_a_newer_version": {"unit": "none"}}


OPEN = {"labels", "phases", "components", "methods", "anomalies"}
"""Objects whose keys are names or kinds."""


def test_fields_of_a_newer_version_are_accepted_and_ignored():
    newer = with_new_fields(FINAL)
    assert fault_of(newer) == ""
    assert VALIDATOR.is_valid(newer)
    assert not jsonschema.Draft202012Validator(strict_schema()).is_valid(newer)
    assert table_text(newer) == table_text(FINAL)


@given(damaged_json(FINAL))
@examples(300)
def test_what_is_refused_is_what_the_schema_refuses(data: bytes):
    try:
        found = json.loads(data)
    except ValueError:
        return
    if not isinstance(found, dict):
        return
    fault = fault_of(found)
    if VALIDATOR.is_valid(found):
        # Beyond the schema: 1.0 is no integer here, and no number may be so large that sums overflow.
        assert not fault or "integer" in fault or "no number" in fault
    else:
        assert fault


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"state": "over"}, "state must be one of running, final, recovered, estimated"),
        ({"run": {**FINAL["run"], "id": ""}}, "run.id must not be empty"),
        ({"run": {**FINAL["run"], "started_at": "today"}}, "run.started_at is no date-time"),
        (
            {"run": {key: value for key, value in FINAL["run"].items() if key != "host"}},
            "run.host is missing",
        ),
        ({"energy": {**FINAL["energy"], "total_j": -1.0}}, "energy.total_j is no number from 0 to 1e+30"),
        ({"costs": [None]}, "costs[0] must be of type object"),
    ],
)
def test_a_fault_says_where_and_what(change: dict[str, Any], fault: str):
    assert fault_of({**FINAL, **change}) == fault

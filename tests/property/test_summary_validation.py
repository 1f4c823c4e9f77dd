"""The checker of summaries says what a complete implementation of JSON Schema says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
from hypothesis import given

from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.file import SCHEMA_FILE
from carbonmon.runs.summary.validation import KEYWORDS, fault_of
from tests.fuzz.folders import a_snapshot
from tests.fuzz.strategies import damaged_json, examples
from tests.rows import for_each_row

RULES = json.loads(SCHEMA_FILE.read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(RULES)
SNAPSHOT = a_snapshot()
FINAL = summarize(SNAPSHOT, SNAPSHOT.runs[0], "final")
FOR_PEOPLE = {"$schema", "$id", "title", "description", "format"}


def keywords(rule: dict[str, Any]) -> set[str]:
    inner = [*rule.get("anyOf", ()), *rule.get("properties", {}).values(), *rule.get("$defs", {}).values()]
    inner += [rule[key] for key in ("items", "additionalProperties") if isinstance(rule.get(key), dict)]
    return set(rule).union(*map(keywords, inner))


def test_every_keyword_of_the_schema_is_interpreted_or_for_people_only():
    assert keywords(RULES) - FOR_PEOPLE <= KEYWORDS


def test_a_sound_summary_has_no_fault():
    assert fault_of(FINAL) == ""
    assert VALIDATOR.is_valid(FINAL)


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


@for_each_row(
    ("change", "fault"),
    [
        ({"state": "over"}, "state must be one of running, final, recovered, estimated"),
        ({"more": 1}, "'more' is unknown"),
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

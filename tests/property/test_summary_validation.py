"""The checker of summaries says what a complete implementation of JSON Schema says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
from hypothesis import given

from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.file import SCHEMA_FILE
from carbonmon.runs.summary.text import table_text
from carbonmon.runs.summary.validation import KEYWORDS, fault_of
from tests.fuzz.folders import a_snapshot
from tests.fuzz.strategies import damaged_json
from tests.support import records
from tests.support.effort import examples
from tests.support.rows import for_each_row
from tests.support.strictness import strict_schema, with_new_fields, without_unknown

RULES = json.loads(SCHEMA_FILE.read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(RULES)
SNAPSHOT = a_snapshot()
FINAL = summarize(SNAPSHOT, SNAPSHOT.runs[0], "final")
FOR_PEOPLE = {"$schema", "$id", "title", "description", "format"}


def keywords(rule: dict[str, Any]) -> set[str]:
    inner = [*rule.get("anyOf", ()), *rule.get("properties", {}).values(), *rule.get("$defs", {}).values()]
    inner += [rule[key] for key in ("items", "additionalProperties") if isinstance(rule.get(key), dict)]
    return set(rule).union(*map(keywords, inner))


def closed(rule: Any, name: str = "") -> Iterator[str]:
    if isinstance(rule, dict):
        if rule.get("additionalProperties") is False:
            yield name
        for key, inner in rule.items():
            yield from closed(inner, key)


def test_the_published_schema_is_open_to_new_fields_but_not_to_unknown_methods_and_components():
    assert sorted(closed(RULES)) == ["components", "joules_by_method", "methods"]


def test_every_keyword_of_the_schema_is_interpreted_or_for_people_only():
    assert keywords(RULES) - FOR_PEOPLE <= KEYWORDS


def test_every_reference_of_the_schema_is_to_a_definition_by_its_name():
    named = set(re.findall(r'"\$ref": *"([^"]*)"', SCHEMA_FILE.read_text()))
    assert named == {f"#/$defs/{name}" for name in RULES["$defs"]}


def test_a_sound_summary_has_no_fault():
    assert fault_of(FINAL) == ""
    assert VALIDATOR.is_valid(FINAL)
    assert jsonschema.Draft202012Validator(strict_schema()).is_valid(FINAL), "every field is described"


def test_work_of_builds_that_did_not_tell_epochs_apart_is_sound():
    summary = summarize(SNAPSHOT, SNAPSHOT.runs[0]._replace(work=records.work()), "final")
    assert fault_of(summary) == ""
    del summary["work"]["each_epoch"]
    assert fault_of(summary) == ""


def test_fields_of_a_newer_version_are_accepted_and_ignored():
    newer = with_new_fields(FINAL)
    assert fault_of(newer) == ""
    assert VALIDATOR.is_valid(newer)
    assert not jsonschema.Draft202012Validator(strict_schema()).is_valid(newer)
    assert table_text(newer) == table_text(FINAL)
    assert without_unknown(newer) == FINAL


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
        ({"run": {**FINAL["run"], "id": ""}}, "run.id must not be empty"),
        ({"run": {**FINAL["run"], "started_at": "today"}}, "run.started_at is no date-time"),
        (
            {"run": {key: value for key, value in FINAL["run"].items() if key != "host"}},
            "run.host is missing",
        ),
        ({"energy": {**FINAL["energy"], "total_j": -1.0}}, "energy.total_j is no number from 0 to 1e+30"),
        ({"costs": [None]}, "costs[0] must be of type object"),
        (
            {"energy": {**FINAL["energy"], "components": {"npu": {"energy_j": 1.0, "measured_ratio": 1.0}}}},
            "'energy.components.npu' is unknown",
        ),
    ],
)
def test_a_fault_says_where_and_what(change: dict[str, Any], fault: str):
    assert fault_of({**FINAL, **change}) == fault

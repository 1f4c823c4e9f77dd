"""The summary's JSON Schema for tests: other than the published one it allows no further fields."""

from __future__ import annotations

import json
from typing import Any

from carbonmon.runs.summary.file import SCHEMA_FILE


def strict(rule: Any) -> Any:
    """The same rule in which every object has the fields that it names and no others."""
    if isinstance(rule, list):
        return [strict(each) for each in rule]
    if not isinstance(rule, dict):
        return rule
    inner = {key: strict(each) for key, each in rule.items()}
    return {**inner, "additionalProperties": False} if "properties" in rule and "type" in rule else inner


def strict_schema() -> dict[str, Any]:
    """The strict variant of summary.schema.json."""
    found: dict[str, Any] = strict(json.loads(SCHEMA_FILE.read_bytes()))
    return found


def without_unknown(summary: dict[str, Any]) -> Any:
    """A summary without the fields that its schema does not name."""
    schema = strict_schema()

    def known(value: Any, rule: Any) -> Any:
        if "$ref" in rule:
            rule = {**schema["$defs"][rule["$ref"].rpartition("/")[2]], **rule}
        for option in rule.get("anyOf", ()):
            if option.get("type") != "null":
                rule = {**rule, **option}
                return known(value, {key: each for key, each in rule.items() if key != "anyOf"})
        if isinstance(value, list):
            return [known(item, rule.get("items", {})) for item in value]
        if not isinstance(value, dict):
            return value
        named, others = rule.get("properties", {}), rule.get("additionalProperties")
        rules = {key: named.get(key, others) for key in value}
        return {key: known(value[key], each) for key, each in rules.items() if each}

    return known(summary, schema)


OPEN = {"labels", "phases", "components", "methods", "anomalies"}
"""Objects whose keys are names or kinds."""


def with_new_fields(value: Any) -> Any:
    """The same with a field that no version knows in every object whose keys are fixed."""
    if isinstance(value, list):
        return [with_new_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: with_new_fields(item) for key, item in value.items() if key not in OPEN}
    return {**value, **inner, "from_a_newer_version": {"unit": "none"}}

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
    return {"additionalProperties": False, **inner} if "properties" in rule and "type" in rule else inner


def strict_schema() -> dict[str, Any]:
    """The strict variant of summary.schema.json."""
    found: dict[str, Any] = strict(json.loads(SCHEMA_FILE.read_bytes()))
    return found

"""Whether a document obeys the summary's JSON Schema, `summary.schema.json`, and what is wrong if not.

The rules are written down once, in the schema. A library that reads it would be one more package that every
report needs; the code that generators make of it is 300 kB in lines that nobody can read. The schema uses a
dozen keywords: they are interpreted here, and a test holds that against a complete implementation.

Fields that the schema does not name are accepted and ignored, so that files of newer versions can be read.
Only an unknown method or component is a fault: without knowing it, nothing can be said about its joules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from carbonmon.core.typed import LARGEST
from carbonmon.runs.summary.file import SCHEMA_FILE

KEYWORDS = frozenset(
    (
        *("$ref", "$defs", "anyOf", "type", "const", "enum", "minimum", "maximum", "pattern", "minLength"),
        *("items", "uniqueItems", "required", "properties", "additionalProperties"),
    )
)
"""What is interpreted; all else in the schema is for people."""

Rule = Mapping[str, Any]

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
}


def fault_of(summary: Mapping[str, Any]) -> str:
    """What breaks a rule first, and where; "" if nothing does. Also refused are numbers beyond `LARGEST`."""
    rules = json.loads(SCHEMA_FILE.read_bytes())
    return _Schema(rules).fault(summary, rules, "")


class _Schema:
    def __init__(self, rules: Rule) -> None:
        self._rules = rules

    def fault(self, value: Any, rule: Rule, where: str) -> str:
        """What breaks the rule, "" if nothing does; `where` is the place of the value."""
        if "$ref" in rule:
            rule = {**self._named(rule["$ref"]), **rule}
        if "anyOf" in rule:
            faults = [self.fault(value, option, where) for option in rule["anyOf"]]
            return "" if "" in faults else faults[0]
        kinds = rule.get("type", ())
        kinds = (kinds,) if isinstance(kinds, str) else kinds
        if value is None and "null" in kinds:
            return ""
        wanted = [_TYPES[kind] for kind in kinds if kind != "null"]
        if kinds and (
            (isinstance(value, bool) and bool not in wanted)
            or not any(isinstance(value, kind) for kind in wanted)
        ):
            return f"{where} must be of type {' or '.join(kinds)}"
        if "const" in rule or "enum" in rule:
            known = rule.get("enum", [rule.get("const")])
            return "" if value in known else f"{where} must be one of {', '.join(known)}"
        if isinstance(value, (int, float)):
            low, high = rule.get("minimum", -LARGEST), rule.get("maximum", LARGEST)
            return "" if low <= value <= high else f"{where} is no number from {low:g} to {high:g}"
        if isinstance(value, str):
            return _text_fault(value, rule, where)
        inner = self._of_list if isinstance(value, list) else self._of_object
        return next(filter(None, inner(value, rule, where)), "")

    def _named(self, reference: str) -> Rule:
        """The rule at a place of this schema: `#/$defs/settled/properties/intensity`."""
        rule = self._rules
        for key in reference.split("/")[1:]:
            rule = rule[key]
        return rule

    def _of_list(self, value: list[Any], rule: Rule, where: str) -> Iterator[str]:
        for i, item in enumerate(value):
            yield self.fault(item, rule["items"], f"{where}[{i}]")
        if rule.get("uniqueItems") and len(set(map(json.dumps, value))) < len(value):
            yield f"{where} holds the same twice"

    def _of_object(self, value: Mapping[str, Any], rule: Rule, where: str) -> Iterator[str]:
        for key in rule.get("required", ()):
            if key not in value:
                yield f"{where}.{key} is missing".lstrip(".")
        others = rule.get("additionalProperties")
        for key, item in value.items():
            kind = rule.get("properties", {}).get(key, others)
            at = f"{where}.{key}".lstrip(".")
            if kind is False:
                yield f"{at!r:.60} is unknown"
            elif kind is not None:  # None: a field of a newer version
                yield self.fault(item, kind, at)


def _text_fault(text: str, rule: Rule, where: str) -> str:
    if len(text) < rule.get("minLength", 0):
        return f"{where} must not be empty"
    return "" if re.search(rule.get("pattern", ""), text) else f"{where} is no {rule.get('format')}"

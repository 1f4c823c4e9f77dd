"""Patterns are compiled when they are used, and then they are what `re.compile` gives."""

from __future__ import annotations

import re

import pytest

from carbonmon.core.patterns import pattern


def test_a_pattern_is_compiled_once_and_when_it_is_used(monkeypatch: pytest.MonkeyPatch):
    compiled: list[object] = []
    compile_it = re.compile
    monkeypatch.setattr(re, "compile", lambda *given: compiled.append(given) or compile_it(*given))
    found = pattern(r"a(\d+)", re.IGNORECASE)
    assert compiled == []
    for _ in range(3):
        made = found.fullmatch("A12")
        assert made is not None and made[1] == "12"
    assert len(compiled) == 1
    assert found.sub("x", "a1 b a2") == "x b x"
    assert found.pattern == r"a(\d+)"
    assert pattern(rb"\d+").findall(b"1 22") == [b"1", b"22"]
    with pytest.raises(AttributeError):
        _ = found.colour  # type: ignore[attr-defined]

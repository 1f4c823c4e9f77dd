"""Reads and checks the fields of a message on the socket; each raises `RequestError` with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from carbonmon.service.socket.server import RequestError

MAX_NAME = 200
"""Characters of a phase's name: it is a label of every series of the run."""

MAX_ENTRIES = 1024
MAX_LABELS, MAX_LABEL = 64, 4096
"""Each label is one of `run_info`; the longest allocation of GPUs is a list of their UUIDs."""

Word = TypeVar("Word", bound=str)


def optional_text(message: Mapping[str, Any], key: str, longest: int) -> str | None:
    """A text, None where there is none; a longer one is cut, so that a long name is no error."""
    value = message.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise RequestError(f"{key} must be a text, and is {value!r:.40}")
    return value[:longest]


def optional_count(message: Mapping[str, Any], key: str) -> int | None:
    """A whole number of at least 0, None where there is none."""
    value = message.get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise RequestError(f"{key} must be a whole number of at least 0, and is {value!r:.40}")
    return value


def optional_number(message: Mapping[str, Any], key: str) -> float | None:
    """A number from 0 to 10¹⁵, None where there is none."""
    value = message.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e15:
        raise RequestError(f"{key} must be a number of at least 0, and is {value!r:.40}")
    return float(value)


def optional_texts(message: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    """A list of texts, None where there is none."""
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RequestError(f"{key} must be a list of texts")
    return tuple(value[:MAX_ENTRIES])


def texts_by_name(message: Mapping[str, Any], key: str) -> dict[str, str]:
    """Texts by name, empty where there are none."""
    value = message.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise RequestError(f"{key} must be an object of texts")
    return {name[:MAX_NAME]: text[:MAX_LABEL] for name, text in list(value.items())[:MAX_LABELS]}


def choice(message: Mapping[str, Any], key: str, words: Sequence[Word], default: Word) -> Word:
    """One of several keywords."""
    value = message.get(key)
    if value is None:
        return default
    for word in words:
        if value == word:
            return word
    raise RequestError(f"{key} must be one of {', '.join(words)}, and is {value!r:.40}")

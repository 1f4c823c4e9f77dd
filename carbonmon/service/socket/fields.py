"""Reads and checks the fields of a message on the socket; each raises `RequestError` with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from carbonmon.core import labels
from carbonmon.core.typed import Source
from carbonmon.service.socket.request import RequestError

MAX_NAME = 200
"""Characters of a phase's name: it is a label of every series of the run."""

MAX_ENTRIES = 1024
MAX_LABELS, MAX_LABEL = 64, 4096
"""The longest allocation of GPUs is a list of their UUIDs."""

Word = TypeVar("Word", bound=str)

_SENDER = Source("", RequestError)


def optional_text(message: Mapping[str, Any], key: str, longest: int) -> str | None:
    """A text, None where there is none; a longer one is cut, so that a long name is no error."""
    value = message.get(key)
    return None if value is None else str(_SENDER.value(key, value, str))[:longest] or None


def optional_count(message: Mapping[str, Any], key: str) -> int | None:
    """A whole number from 0 to 2³², None where there is none."""
    value = message.get(key)
    return None if value is None else int(_SENDER.value(key, value, int, highest=2.0**32))


def optional_number(message: Mapping[str, Any], key: str) -> float | None:
    """A number from 0 to 10¹⁵, None where there is none."""
    value = message.get(key)
    return None if value is None else float(_SENDER.value(key, value, float, highest=1e15))


def optional_amount(message: Mapping[str, Any], key: str) -> float | None:
    """A number of at least 0 that may be as large as any of a run, None where there is none."""
    value = message.get(key)
    return None if value is None else float(_SENDER.value(key, value, float))


def optional_texts(message: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    """A list of texts, None where there is none."""
    value = message.get(key)
    return None if value is None else tuple(_SENDER.value(key, value, tuple[str, ...]))[:MAX_ENTRIES]


def counts(message: Mapping[str, Any], key: str) -> list[int]:
    """Whole numbers, empty where there are none."""
    value = message.get(key)
    numbers = [] if value is None else _SENDER.value(key, value, tuple[int, ...])
    return list(numbers)[:MAX_ENTRIES]


def texts_by_name(message: Mapping[str, Any], key: str) -> dict[str, str]:
    """Texts by name, empty where there are none."""
    value = message.get(key)
    texts = {} if value is None else _SENDER.value(key, value, dict)
    return {
        name[:MAX_NAME]: str(_SENDER.value(f"{key}.{name:.40}", text, str))[:MAX_LABEL]
        for name, text in list(texts.items())[:MAX_LABELS]
    }


def run_labels(message: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a new run, none where there are none."""
    found = texts_by_name(message, "labels")
    taken = next(filter(labels.is_reserved, found), None)
    if taken is not None:
        raise RequestError(f"label {taken!r:.60}: a name that the metrics have already; choose another")
    size = labels.size_bytes(found.items())
    if size > labels.MAX_BYTES:
        raise RequestError(
            f"the labels have {size} bytes together, and a run has room for {labels.MAX_BYTES}: shorten them"
        )
    return found


def choice(message: Mapping[str, Any], key: str, words: Sequence[Word], default: Word) -> Word:
    """One of several keywords."""
    value = message.get(key)
    if value is None:
        return default
    for word in words:
        if value == word:
            return word
    raise _SENDER.unlike(key, f"one of {', '.join(words)}", value)

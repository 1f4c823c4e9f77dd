"""How much room a run's labels have, which are a sample of every scrape. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MAX_BYTES = 1024
"""Names and values of all labels of a run, in UTF-8."""


def size_bytes(labels: Iterable[tuple[str, str]]) -> int:
    """What labels take of `MAX_BYTES`."""
    return sum(len(f"{key}{value}".encode("utf-8", "surrogatepass")) for key, value in labels)


def that_fit(labels: Mapping[str, str]) -> dict[str, str]:
    """The first of the labels, as many as have room."""
    left, found = MAX_BYTES, {}
    for pair in labels.items():
        left -= size_bytes([pair])
        if left < 0:
            break
        found[pair[0]] = pair[1]
    return found

"""Which labels a run may have: their room, since they are a sample of every scrape, and names that are taken.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from carbonmon.core.patterns import pattern

MAX_BYTES = 1024
"""Names and values of all labels of a run, in UTF-8."""

MAX_USER_BYTES = 64 * 1024
"""The same of all runs of one user that a daemon shows, so that its /metrics stays small."""

RESERVED = frozenset(
    (
        *("run_id", "name", "scheduler", "scheduler_job_id", "zone", "idle_policy", "uid"),
        *("phase", "component", "device", "method"),
        *("job", "instance"),
    )
)
"""Names of labels that the metrics of a run have already, and of those that Prometheus adds to each target.

A label is joined to a run's joules by `group_left`: one of these names would overwrite theirs.
"""

_BAD_CHARACTER = pattern(r"[^a-zA-Z0-9_]")


def metric_name(key: str) -> str:
    """The name of a label in /metrics, where some characters are not allowed."""
    return _BAD_CHARACTER.sub("_", key)


def is_reserved(key: str) -> bool:
    """Whether a label has, in /metrics, a name of ours or of Prometheus' own."""
    name = metric_name(key)
    return name in RESERVED or name.startswith("__")


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

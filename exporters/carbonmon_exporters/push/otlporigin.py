"""Who tells the metrics: the attributes of the two resources, and the environment's share in them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from carbonmon.runs.summary.strings import encodable

RESOURCE = "OTEL_RESOURCE_ATTRIBUTES"


class Origin:
    """Who tells the metrics, and since when the counters that belong to no run count.

    There are two resources. The runs' has the host as its instance, so that a run's series go on where
    another monitor goes on with the run. The devices' and the monitor's own is this process, because two
    monitors of a host do not count the same.
    """

    def __init__(self, version: str, began_s: float | None, host: str | None = None) -> None:
        """`began_s` is the Unix time of the monitor's start, None where an earlier one began to count.

        `host` is the machine's name, by default its own.
        """
        host = encodable(host or os.uname().nodename or "unknown")
        common = {"service.name": "carbonmon", "service.version": version, "host.name": host}
        # The environment may add to them; what we know ourselves stands.
        more = pairs(os.environ.get(RESOURCE, ""))
        self.runs = {**more, **common, "service.instance.id": host}
        self.monitor = {**more, **common, "service.instance.id": f"{host}:{os.getpid()}"}
        self.version = version
        self.began_s = began_s


def pairs(text: str) -> dict[str, str]:
    """NAME=VALUE,… with %-escapes, as OpenTelemetry's variables have them; what is no pair is left out."""
    words = [word.partition("=") for word in text.split(",")]
    return {
        encodable(unquote(name.strip())): encodable(unquote(value.strip()))
        for name, equals, value in words
        if equals and name.strip()
    }


def set_attributes(attributes: Any, values: Mapping[str, str]) -> None:
    """Add attributes of type string to a repeated field of a message."""
    for name, value in values.items():
        attribute = attributes.add()
        attribute.key, attribute.value.string_value = name, value

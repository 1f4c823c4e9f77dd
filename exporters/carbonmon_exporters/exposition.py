"""The text formats of Prometheus, written from prometheus_client's families.

The bytes are those of the library's own encoders, at a sixth of their time: a family's samples have the same
labels, so names, order and braces are made once for all of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

OPENMETRICS = "application/openmetrics-text"

_SUFFIXES = {"counter": "_total", "gauge": "", "info": "_info"}
"""The kinds of families that are written here, and what the text format adds to their names."""

_SCHEMES = ("underscores", "allow-utf-8")
"""Ways to write names that are no classic ones. None of ours is such a name, so these two write the same."""

_PLAIN_BELOW = 1e6
"""From here on Go writes exponents, where Python does so later."""

_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 1
"""Half of the time of level 6 for a tenth more bytes: a scrape is over when its answer is made."""


class _Escaped(dict[str, str]):
    """Values of labels as they are written; each is escaped once an answer."""

    def __missing__(self, text: str) -> str:
        escaped = self[text] = text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        return escaped


@lru_cache(maxsize=64)
def chosen(accept: str | None) -> tuple[Callable[[Any], bytes], str]:
    """The library's encoder and the content type for an Accept header: a scraper sends one always."""
    return choose_encoder(accept)  # type: ignore[arg-type]  # it takes none as well


def metrics_app(registry: CollectorRegistry) -> WSGIApplication:
    """As `prometheus_client.make_wsgi_app`: the format that is asked for, `?name[]=`, and gzip."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        encoder, content_type = chosen(environ.get("HTTP_ACCEPT"))
        query = parse_qs(environ.get("QUERY_STRING", ""))
        asked = registry.restricted_registry(query["name[]"]) if "name[]" in query else registry
        body = encoded(list(asked.collect()), content_type, encoder)
        headers = [("Content-Type", content_type)]
        encoding: Any = environ.get("HTTP_ACCEPT_ENCODING")
        if gzip_accepted(encoding):
            packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
            body = packing.compress(body) + packing.flush()
            headers.append(("Content-Encoding", "gzip"))
        start_response("200 OK", headers)
        return [body]

    return app


def encoded(families: list[Metric], content_type: str, encoder: Callable[[Any], bytes]) -> bytes:
    """The families in a format; by the library's `encoder` if there is one of a kind not written here."""
    scheme = content_type.partition("escaping=")[2] or _SCHEMES[0]
    if scheme not in _SCHEMES or any(family.type not in _SUFFIXES for family in families):
        return encoder(_Collected(families))
    if content_type.startswith(OPENMETRICS):
        return _openmetrics(families)
    return _text(families)


class _Collected:
    """What was collected, for an encoder that would collect itself."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _text(families: list[Metric]) -> bytes:
    """The text format 0.0.4 and 1.0.0: times in milliseconds, an info is a gauge."""
    lines: list[str] = []
    escaped = _Escaped()
    for family in families:
        name = family.name + _SUFFIXES[family.type]
        kind = "gauge" if family.type == "info" else family.type
        documentation = family.documentation.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {name} {documentation}\n# TYPE {name} {kind}\n")
        _write(lines, family, escaped, lambda time_s: f" {int(float(time_s) * 1000):d}")
    return "".join(lines).encode("utf-8")


def _openmetrics(families: list[Metric]) -> bytes:
    """OpenMetrics 1.0: times in seconds, units, and an end."""
    lines: list[str] = []
    escaped = _Escaped()
    for family in families:
        name = family.name
        lines.append(f"# HELP {name} {escaped[family.documentation]}\n# TYPE {name} {family.type}\n")
        if family.unit:
            lines.append(f"# UNIT {name} {family.unit}\n")
        _write(lines, family, escaped, lambda time_s: f" {time_s}")
    lines.append("# EOF\n")
    return "".join(lines).encode("utf-8")


def _write(lines: list[str], family: Metric, escaped: _Escaped, stamp: Callable[[Any], str]) -> None:
    """One line a sample: name, labels in the order of their names, value, and its time if it has one."""
    keys: tuple[str, ...] | None = None
    name = template = ""
    order: list[str] = []
    for sample in family.samples:
        labels, time_s = sample.labels, sample.timestamp
        own = tuple(labels)
        if own != keys or sample.name != name:
            keys, name, order = own, sample.name, sorted(own)
            inner = ",".join([f'{key}="%s"' for key in order])
            template = f"{name}{{{inner}}}" if order else name
        begin = template % tuple([escaped[labels[key]] for key in order])
        end = "" if time_s is None else stamp(time_s)
        value = sample.value
        is_plain = type(value) is float and -_PLAIN_BELOW < value < _PLAIN_BELOW
        text = value if is_plain else floatToGoString(value)  # type: ignore[no-untyped-call]
        lines.append(f"{begin} {text}{end}\n")

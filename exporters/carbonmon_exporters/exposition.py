"""The text formats of Prometheus, written from prometheus_client's families.

The bytes are those of the library's own encoders, at a tenth of their time: names and labels hardly change
from one answer to the next, so what a line begins with is kept, and only values are written anew.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry
from prometheus_client.utils import floatToGoString

from carbonmon_exporters.families import RowFamily, escaped

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

OPENMETRICS = "application/openmetrics-text"
_TEXT = "text/plain"
_PLAIN_TEXT = "text/plain; version=0.0.4; charset=utf-8"

_SUFFIXES = {"counter": "_total", "gauge": "", "info": "_info"}
"""The kinds of families that are written here, and what the text format adds to their names."""

_SCHEMES = ("underscores", "allow-utf-8")
"""Ways to write names that are no classic ones. None of ours is such a name, so these two write the same."""

_LIBRARY_SCHEMES = (*_SCHEMES, "dots", "values")
"""Those that prometheus_client knows; any other is the first."""

_PLAIN_BELOW = 1e6
"""From here on Go writes exponents, where Python does so later."""

_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 1
"""Half of the time of level 6 for a tenth more bytes: a scrape is over when its answer is made."""


@lru_cache(maxsize=64)
def content_type_for(accept: str | None) -> str:
    """The content type for an Accept header, as prometheus_client 0.26 chooses it: by order, not by weights.

    The library's own choice comes with its server. A version that is no number is nobody's format.
    """
    try:
        return next(filter(None, map(_content_type, (accept or "").split(","))), _PLAIN_TEXT)
    except TypeError:
        return _PLAIN_TEXT


def _content_type(accepted: str) -> str | None:
    """The content type for one of the kinds that a client accepts; None where we do not write it."""
    kind, *rest = (part.strip() for part in accepted.split(";"))
    if kind not in (OPENMETRICS, _TEXT):
        return None
    given: dict[str, str] = {}
    for name, is_given, value in (part.partition("=") for part in rest):
        if is_given:
            given.setdefault(name, value)
    version = given.get("version", "")
    scheme = given.get("escaping")
    escaping = f"charset=utf-8; escaping={scheme if scheme in _LIBRARY_SCHEMES else _SCHEMES[0]}"
    if kind == OPENMETRICS and not version:
        return f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
    if not version or _parsed(version) < (1, 0, 0):
        return None
    return f"{kind}; version={version if kind == OPENMETRICS else '1.0.0'}; {escaping}"


def _parsed(version: str) -> tuple[Any, ...]:
    return tuple(map(_number_or_text, version.split(".")))


def _number_or_text(part: str) -> int | str:
    try:
        return int(part)
    except ValueError:
        return part


def library_encoder(accept: str | None) -> Callable[[Any], bytes]:
    """The library's encoder for an Accept header; loads its server as well."""
    from prometheus_client.exposition import choose_encoder

    try:
        return choose_encoder(accept)[0]  # type: ignore[arg-type]  # it takes none as well
    except TypeError:  # a version that is no number, in prometheus-client 0.26
        return choose_encoder("")[0]


def _accepts_gzip(header: str) -> bool:
    return any(accepted.split(";")[0].strip().lower() == "gzip" for accepted in header.split(","))


def metrics_app(registry: CollectorRegistry) -> WSGIApplication:
    """As `prometheus_client.make_wsgi_app`: the format that is asked for, `?name[]=`, and gzip."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        accept = environ.get("HTTP_ACCEPT")
        content_type = content_type_for(accept)
        query = parse_qs(environ.get("QUERY_STRING", ""))
        asked = registry.restricted_registry(query["name[]"]) if "name[]" in query else registry
        body = encoded(list(asked.collect()), content_type, partial(library_encoder, accept))
        headers = [("Content-Type", content_type)]
        if _accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", "")):
            packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
            body = packing.compress(body) + packing.flush()
            headers.append(("Content-Encoding", "gzip"))
        start_response("200 OK", headers)
        return [body]

    return app


def encoded(
    families: list[Metric], content_type: str, load_encoder: Callable[[], Callable[[Any], bytes]]
) -> bytes:
    """The families in a format; by the library's encoder if something in them is not written here."""
    scheme = content_type.partition("escaping=")[2] or _SCHEMES[0]
    if scheme not in _SCHEMES or not all(map(_is_plain, families)):
        return load_encoder()(_Collected(families))
    if content_type.startswith(OPENMETRICS):
        lines = _lines(families, _openmetrics_head, lambda time_s: f" {time_s}")
        lines.append("# EOF\n")
    else:  # the text format 0.0.4 and 1.0.0: times in milliseconds, an info is a gauge
        lines = _lines(families, _text_head, lambda time_s: f" {int(float(time_s) * 1000):d}")
    return "".join(lines).encode("utf-8")


class _Collected:
    """What was collected, for an encoder that would collect itself."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _is_plain(family: Metric) -> bool:
    """Whether it is of a kind that is written here, and has nothing but values and times."""
    suffix = _SUFFIXES.get(family.type)
    if suffix is None:
        return False
    if isinstance(family, RowFamily) and not family.library_samples:
        return True
    name = family.name + suffix
    return all(
        sample.name == name and sample.exemplar is None and sample.native_histogram is None
        for sample in family.samples
    )


@lru_cache(maxsize=512)
def _text_head(name: str, documentation: str, kind: str, unit: str) -> str:
    name += _SUFFIXES[kind]
    documentation = documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {documentation}\n# TYPE {name} {'gauge' if kind == 'info' else kind}\n"


@lru_cache(maxsize=512)
def _openmetrics_head(name: str, documentation: str, kind: str, unit: str) -> str:
    unit_line = f"# UNIT {name} {unit}\n" if unit else ""
    return f"# HELP {name} {escaped(documentation)}\n# TYPE {name} {kind}\n{unit_line}"


def _lines(
    families: list[Metric], head: Callable[[str, str, str, str], str], stamp: Callable[[Any], str]
) -> list[str]:
    """The families' lines, each with its end."""
    lines: list[str] = []
    for family in families:
        lines.append(head(family.name, family.documentation, family.type, family.unit))
        if isinstance(family, RowFamily) and not family.library_samples:
            _write_rows(lines, family, stamp)
        else:
            _write_samples(lines, family, stamp)
    return lines


def _write_rows(lines: list[str], family: RowFamily, stamp: Callable[[Any], str]) -> None:
    beginnings, rows, below = family.beginnings, family.rows, _PLAIN_BELOW
    lines += [
        f"{beginnings[labels]}{float(value)!r}{'' if time_s is None else stamp(time_s)}\n"
        if -below < value < below
        else f"{beginnings[labels]}{_go(value)}{'' if time_s is None else stamp(time_s)}\n"
        for labels, value, time_s in rows
    ]
    beginnings.keep(len(rows))


def _write_samples(lines: list[str], family: Metric, stamp: Callable[[Any], str]) -> None:
    for sample in family.samples:
        labels = ",".join([f'{name}="{escaped(value)}"' for name, value in sorted(sample.labels.items())])
        value = _go(sample.value)
        end = "" if sample.timestamp is None else stamp(sample.timestamp)
        lines.append(
            f"{sample.name}{{{labels}}} {value}{end}\n" if labels else f"{sample.name} {value}{end}\n"
        )


def _go(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text

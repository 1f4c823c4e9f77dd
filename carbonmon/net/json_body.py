"""The JSON value of an answer's body: no number in it is infinite or none, and no error shows any of it."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from carbonmon.core.errors import FetchError


def json_value(body: bytes, host: str) -> Any:
    """Raises `FetchError` with reason not_json, which names the host."""
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise FetchError("not_json", f"{host}: the answer is no JSON") from None


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("a number is too large")
    return number

"""The API of Prometheus, and of what speaks as it does: Mimir, Cortex, Thanos, VictoriaMetrics.

Every request ends within a time and a size, whatever the server does. Redirects are not followed: passwords
travel in headers. No text of an error holds anything of a request but its host.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from carbonmon.analysis.prometheus.address import (
    PASSWORD,
    TENANT,
    TENANT_HEADERS,
    TOKEN,
    USERNAME,
    Login,
    checked_url,
    login,
)
from carbonmon.core.errors import FetchError
from carbonmon.core.records import NamedTuple
from carbonmon.net.exchange import HttpError
from carbonmon.net.http import Answer, HttpClient
from carbonmon.runs.summary.strings import one_line

TIME_LIMIT_S = 10.0
"""For each answer: so long is waited for a server that hangs."""
SERVER_TIME_RATIO = 0.8
"""The part of that time after which the server itself is to give a query up, and to say so."""
LIMIT_BYTES = 64 << 20
"""Of an answer, as it is sent and unpacked."""

_LONGEST_SAID = 200
_LATEST_S = 1e11
_TOO_MUCH = frozenset((413, 422, 503, 504))
"""What servers say to a query over too many samples, or one that takes too long; 422 also to other faults."""

Labels = Mapping[str, str]


class TooMuch(FetchError):
    """The server or we ourselves find that an answer would be too large: ask for less at a time."""


class Series(NamedTuple):
    """One series of an answer: its labels, and its samples: Unix times in s and values, NaN among them."""

    labels: Labels
    times_s: list[float]
    values: list[float]


class Api:
    """Asks one server; `notes` are what it said beside its answers, for instance that one is partial."""

    def __init__(
        self,
        url: str,
        environ: Mapping[str, str],
        time_limit_s: float = TIME_LIMIT_S,
        limit_bytes: int = LIMIT_BYTES,
        given: Login | None = None,
    ) -> None:
        """Raises ConfigError for a URL that is none, and for a login that cannot be sent safely."""
        self._base, self.host = checked_url(url)
        sent, self._secrets = login(given or Login(), environ, self._base)
        self._headers = {"Accept": "application/json", "Accept-Encoding": "gzip", **sent}
        self._has_login = "Authorization" in self._headers
        self._client = HttpClient(time_limit_s)
        # VictoriaMetrics answers for half a minute ago without nocache; the others do not know the word.
        self._common = {"timeout": f"{SERVER_TIME_RATIO * time_limit_s:g}", "nocache": "1"}
        self._limit_bytes = limit_bytes
        self.notes: dict[str, None] = {}

    def now_s(self) -> float:
        """The server's clock: ours may be wrong. Also the cheapest question, so the first one."""
        data = self._ask("query", {"query": "time()"})
        try:
            result = data["result"]
            # VictoriaMetrics has no scalars: it answers with a vector of one.
            now_s = float(result[0]["value"][1] if data["resultType"] == "vector" else result[1])
        except (LookupError, TypeError, ValueError):
            raise self._garbage() from None
        if not 0.0 < now_s < _LATEST_S:
            raise self._garbage()
        return now_s

    def at(self, query: str, at_s: float) -> list[Series]:
        """An instant query: the raw samples of a range selector, or one sample of each series."""
        return self._series(self._ask("query", {"query": query, "time": f"{at_s:.3f}"}))

    def over(self, query: str, start_s: float, end_s: float, step_s: float) -> list[Series]:
        """A query at each step of a time. Some servers shift the steps: look at the times of the answer."""
        words = {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:.3f}"}
        return self._series(self._ask("query_range", {"query": query, **words}))

    def values(self, label: str, selector: str, start_s: float, end_s: float) -> list[str]:
        """The values of a label in the series of a selector."""
        words = {"match[]": selector, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}"}
        found = self._ask(f"label/{quote(label, safe='')}/values", words)
        if not isinstance(found, list):
            raise self._garbage()
        return [value for value in found if isinstance(value, str)]

    def _ask(self, what: str, words: Mapping[str, str]) -> Any:
        answer = self._fetch(f"{self._base}/api/v1/{what}?{urlencode({**words, **self._common})}")
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError):
            raise self._garbage() from None
        if not isinstance(found, dict) or found.get("status") != "success" or "data" not in found:
            said = found.get("error") if isinstance(found, dict) else None
            raise FetchError("error", f"{self.host}: {self._plain(said)}") if said else self._garbage()
        warnings = found.get("warnings")
        for warning in warnings if isinstance(warnings, list) else ():
            self.notes[f"it warns: {self._plain(warning)}"] = None
        if found.get("isPartial"):
            self.notes["it says that its answer is partial"] = None
        return found["data"]

    def _fetch(self, url: str) -> bytes:
        try:
            with self._client.open(url, self._headers) as answer:
                if answer.status != 200:
                    raise self._refusal(answer)
                return self._body(answer)
        except HttpError as error:
            hint = f"; {_MORE_TIME}" if error.reason == "timeout" else ""
            said = f"{one_line(error.said, _LONGEST_SAID)}{hint}"
            raise FetchError(error.reason, f"{self.host}: {said}") from None

    def _body(self, answer: Answer) -> bytes:
        try:
            return answer.body(self._limit_bytes)
        except HttpError as error:
            if error.reason == "packed":
                raise self._garbage() from None
            if error.reason == "too_large":
                size = f"{self._limit_bytes >> 20} MiB"
                raise TooMuch("too_large", f"{self.host}: the answer is longer than {size}") from None
            raise

    def _refusal(self, answer: Answer) -> FetchError:
        code, host = answer.status, self.host
        if code in (401, 403):
            have = "does not accept the login" if self._has_login else "asks for a login"
            hint = "give --token-file, or --username and --password-file"
            hint += f", or set {TOKEN}, or {USERNAME} and {PASSWORD}, in the environment"
            tenant = f"; Mimir and Cortex ask for --tenant ({TENANT}) as well"
            more = tenant if TENANT_HEADERS[0] not in self._headers else ""
            return FetchError(f"http_{code}", f"{host}: it {have} (status {code}); {hint}{more}")
        if 300 <= code < 400:
            where = answer.redirects_to()
            hint = f" to {self._plain(where)}: give that address" if where else ", which is not followed"
            return FetchError("redirect", f"{host}: it redirects{hint}")
        try:
            said = json.loads(answer.beginning())["error"]
        except (ValueError, LookupError, TypeError, RecursionError):
            said = None
        if code == 404 and said is None:
            return FetchError("http_404", f"{host}: {_NO_API}")
        text = f"status {code}" if said is None else f"{self._plain(said)} (status {code})"
        if said is not None and "timed out" in str(said):
            text = f"{text}; {_MORE_TIME}"
        kind = TooMuch if code in _TOO_MUCH else FetchError
        return kind(f"http_{code}", f"{host}: {text}")

    def _series(self, data: Any) -> list[Series]:
        try:
            return [_one_series(entry) for entry in data["result"]]
        except (LookupError, TypeError, ValueError, AttributeError):
            raise self._garbage() from None

    def _plain(self, text: Any) -> str:
        """What the server says, on one line; it may repeat what it was asked with."""
        plain = str(text)
        for secret in self._secrets:
            plain = plain.replace(secret, "…")
        return one_line(plain, _LONGEST_SAID)

    def _garbage(self) -> FetchError:
        return FetchError("garbage", f"{self.host}: {_NO_API}")


_NO_API = (
    "that is no Prometheus API; give the address before /api/v1, for instance http://prometheus:9090, "
    "https://mimir/prometheus, http://victoriametrics:8428, http://vmselect:8481/select/0/prometheus"
)
_MORE_TIME = "where queries take longer give --timeout SECONDS"


def _one_series(entry: Any) -> Series:
    """Raises a LookupError, TypeError, ValueError or AttributeError for what is none."""
    labels = {str(name): str(value) for name, value in entry["metric"].items()}
    pairs = entry["values"] if "values" in entry else [entry["value"]]
    times_s = [float(pair[0]) for pair in pairs]
    if not all(0.0 <= at_s < _LATEST_S for at_s in times_s):
        raise ValueError("a time is none")
    return Series(labels, times_s, [float(pair[1]) for pair in pairs])

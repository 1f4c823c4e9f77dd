"""One request of an exporter that pushes, by the one HTTP client, and why it did not arrive."""

from __future__ import annotations

from collections.abc import Mapping

from carbonmon.core.errors import CarbonmonError
from carbonmon.core.records import NamedTuple
from carbonmon.net.exchange import HttpError
from carbonmon.net.http import SMALL_BYTES, HttpClient
from carbonmon.runs.summary.strings import one_line

MAX_REASON = 120


class Reply(NamedTuple):
    """A server's answer: `place` is where it redirects to, which is not followed, "" if it does not."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    place: str

    @property
    def is_yes(self) -> bool:
        return 200 <= self.status < 300

    def refusal(self, said: str = "") -> str:
        """The status, and where the server is instead, or what it says itself."""
        more = f", it redirects to {self.place}: give that address" if self.place else f" {said}"
        return one_line(f"{self.status} {self.reason}{more}".strip(), MAX_REASON)


class Sender:
    """Sends to servers; each answer is waited for `timeout_s` in all, and may have 64 KiB.

    `authorities` and `certificate` are as of `HttpClient`.
    """

    def __init__(
        self,
        timeout_s: float,
        authorities: str | None = None,
        certificate: tuple[str, str | None] | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._client = HttpClient(timeout_s, authorities=authorities, certificate=certificate)

    def send(self, method: str, url: str, headers: Mapping[str, str], data: bytes) -> Reply:
        """The answer; raises CarbonmonError with a text that goes on after the server's name."""
        try:
            with self._client.open(url, headers, method, data) as answer:
                is_yes = 200 <= answer.status < 300
                body = answer.body(SMALL_BYTES) if is_yes else answer.beginning()
                return Reply(answer.status, answer.reason, answer.headers, body, answer.redirects_to())
        except HttpError as error:
            raise CarbonmonError(self._trouble(error)) from None

    def _trouble(self, error: HttpError) -> str:
        texts = {
            "timeout": f"did not answer in {self._timeout_s:g} s{error.way}",
            "connect": f"cannot be reached{error.way}: {error.cause}",
            "tls": f"cannot be trusted{error.way}: {error.cause}",
        }
        return texts.get(error.reason, f"does not answer as it should: {error.cause}")

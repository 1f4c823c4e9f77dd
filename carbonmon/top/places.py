"""Where a run, or this node, is to be seen: the monitors of this machine are asked at their sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from carbonmon.core.config import DEFAULT_LISTEN
from carbonmon.core.errors import ConfigError, FetchError
from carbonmon.core.hints import nearest_runs
from carbonmon.core.records import NamedTuple
from carbonmon.top.api import MonitorApi, checked_url
from carbonmon.top.document import Document

DEFAULT_URL = f"http://{DEFAULT_LISTEN}"
ANSWER_S = 1.0

MOST_CANDIDATES = 10

Open = Callable[[str], MonitorApi]


class Listed(NamedTuple):
    """A run that a monitor shows."""

    api: MonitorApi
    run_id: str
    name: str
    is_running: bool
    started_at_s: float


def monitor(url: str | None, opened: Open, environ: Mapping[str, str]) -> MonitorApi:
    """The monitor at an address, else at the default one, else the first of this machine that is found.

    Raises FetchError where none answers.
    """
    if url is not None:
        return opened(url)
    api = opened(DEFAULT_URL)
    try:
        api.now()
    except FetchError as error:
        if error.reason != "connect":
            raise
        for other in local_urls(environ):
            with suppress(FetchError, ConfigError):
                (found := opened(other)).now()
                return found
        raise
    return api


def run(word: str, url: str | None, opened: Open, environ: Mapping[str, str]) -> Listed:
    """The run that a word means, at an address or anywhere on this machine: the last one, else that of this
    id, else of this name, else the one whose id begins so.

    Raises ConfigError where it means none or several, FetchError where no monitor answers.
    """
    urls = [url] if url is not None else list(dict.fromkeys((*local_urls(environ), DEFAULT_URL)))
    answers = [_runs_at(place, opened) for place in urls]
    runs = [each for answer in answers if isinstance(answer, list) for each in answer]
    failures = [answer for answer in answers if not isinstance(answer, list)]
    if not runs and failures:
        raise failures[0]
    found = _meant(word, sorted(runs, key=lambda each: (each.is_running, each.started_at_s), reverse=True))
    if len({(each.api.base, each.run_id) for each in found}) == 1:
        return found[0]
    if found:
        ids = ", ".join(f"{each.run_id} ({each.name})" for each in found[:MOST_CANDIDATES])
        raise ConfigError(f"{word!r:.70} may be any of {len(found)} runs: {ids}; give its id, or more of it")
    nearest = nearest_runs(word, [each.run_id for each in runs])
    raise ConfigError(
        f"no run {word!r:.70} is shown by {' or '.join(urls)}; {nearest}; one that has ended: "
        f"carbonmon report {word:.64}"
    )


def local_urls(environ: Mapping[str, str]) -> Iterator[str]:
    """The addresses at which the monitors of this machine serve whose sockets we may use."""
    from carbonmon.client.connection import MonitorConnection, Refused
    from carbonmon.client.protocol import ProtocolError
    from carbonmon.client.rendezvous import connect
    from carbonmon.client.surrounding_run import monitor_sockets

    def status(path: Path) -> Document:
        connection = MonitorConnection(path, connect(path, ANSWER_S), {})
        try:
            return Document(connection.request({"op": "status"}, ANSWER_S))
        finally:
            connection.close()

    for path in monitor_sockets(environ):
        with suppress(OSError, Refused, ProtocolError, ConfigError):
            for place in status(path).texts("places"):
                if place.startswith("http"):
                    yield _reached(checked_url(place.partition(" ")[0]))
                    break


def _runs_at(url: str, opened: Open) -> list[Listed] | FetchError | ConfigError:
    """The runs that a monitor shows, else why there are none: also that a login may not be sent there."""
    try:
        api = opened(url)
        return [_listed(api, each) for each in api.runs()]
    except (FetchError, ConfigError) as error:
        return error


def _reached(url: str) -> str:
    """The address by which this machine reaches what listens at every one of its own."""
    for every, own in (("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")):
        url = url.replace(every, own)
    return url


def _listed(api: MonitorApi, found: Document) -> Listed:
    return Listed(
        api,
        found.raw_text("id"),
        found.raw_text("name"),
        found.text("state") == "running",
        found.number("started_at_s") or 0.0,
    )


def _meant(word: str, runs: Sequence[Listed]) -> Sequence[Listed]:
    from carbonmon.runs.lookup import LAST

    if word == LAST:
        return runs[:1]
    running = [each for each in runs if each.name == word and each.is_running]
    return (
        [each for each in runs if each.run_id == word]
        or running
        or [each for each in runs if each.name == word]
        or [each for each in runs if word and each.run_id.startswith(word)]
    )

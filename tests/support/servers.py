"""Real servers on loopback, each until it is left as a context, and what one of them has stored."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from tests.support import command

Self = TypeVar("Self", bound="Server")


def free_port() -> int:
    """A port of loopback that no other worker of this test run and no outgoing connection will take."""
    for port in _PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def _own_ports() -> Iterator[int]:
    """Those below what the kernel gives to whoever asks for any: one thousand for each worker, in turn."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    first = 15_000 + 1000 * worker
    start = os.getpid() % 1000  # two test runs on one machine should not begin at the same one
    return (first + (start + number) % 1000 for number in itertools.count())


_PORTS = _own_ports()


class Server:
    """A program that serves at a free port. `target` is host and port, `url` its address.

    It is ready when `ready`, a path below the address, answers with something that holds `says`.
    """

    def __init__(self, program: str | None, ready: str, says: str = "") -> None:
        assert program is not None, "not here, and no apt-get to fetch it"
        self._program = program
        self._ready, self._says = ready, says
        self.target = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.target}"
        self._log: Path | None = None

    def launch(self, *arguments: str, log: Path | None = None) -> None:
        """Start it with these arguments, and at each `start` again; `log` takes what it writes."""
        self._command, self._log = [self._program, *arguments], log
        self._process = self._started()

    def __enter__(self: Self) -> Self:
        command.wait_for(self._is_ready, self._program)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; what it has stored stays."""
        self._process.terminate()
        self._process.wait(timeout=command.DEADLINE_S)

    def start(self) -> None:
        """Start it again, at the same address."""
        self._process = self._started()
        command.wait_for(self._is_ready, self._program)

    def _started(self) -> subprocess.Popen[bytes]:
        with Path(self._log or os.devnull).open("ab") as log:
            return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=log)

    def _is_ready(self) -> bool:
        try:
            return self._says in command.get(f"{self.url}{self._ready}")
        except OSError:
            return False


class Store(Server):
    """A server with the API of Prometheus. `always` are parameters of each query."""

    always: ClassVar[dict[str, str]] = {}

    def query(self, text: str, at_s: float | None = None) -> list[Any]:
        """The result of an instant query, for now or for a Unix time, as the API gives it."""
        at_s = time.time() if at_s is None else at_s
        result: list[Any] = self._ask("query", query=text, time=f"{at_s:.3f}", **self.always)["result"]
        return result

    def query_range(self, text: str, span_s: float, step_s: float, end_s: float | None = None) -> list[Any]:
        """The result of a query over the `span_s` seconds until `end_s` (now), as the API gives it."""
        now_s = time.time() if end_s is None else end_s
        times = {"start": f"{now_s - span_s:.3f}", "end": f"{now_s:.3f}", "step": f"{step_s:g}"}
        result: list[Any] = self._ask("query_range", query=text, **times, **self.always)["result"]
        return result

    def label_values(self, label: str, selector: str) -> list[str]:
        """The values of a label in the series of a selector."""
        values: list[str] = self._ask(f"label/{label}/values", **{"match[]": selector})
        return values

    def number(self, text: str) -> float | None:
        """The value of a query that gives one series; None without one."""
        result = self.query(text)
        return float(result[0]["value"][1]) if result else None

    def _ask(self, what: str, **parameters: str) -> Any:
        """The data of an answer of the API; fails with what it says of an error."""
        question = urllib.parse.urlencode(parameters)
        try:
            answer = command.get(f"{self.url}/api/v1/{what}?{question}")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        return json.loads(answer)["data"]


def scrape_config(interval_s: float, jobs: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Any]:
    """The config of a scraper: each job has a name and targets, and connections of its own."""
    period = f"{interval_s * 1000:.0f}ms"
    return {
        "global": {"scrape_interval": period, "scrape_timeout": period},
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": list(targets)}]} for name, targets in jobs
        ],
    }

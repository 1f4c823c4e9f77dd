"""A real VictoriaMetrics on loopback: the machine's own, or Debian's package unpacked below build/."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support import command, debian, prometheus


def binary() -> str | None:
    """The program, fetched once with apt where it is missing; None where that cannot be done."""
    return debian.program("victoria-metrics")


class VictoriaMetrics:
    """Scrapes its targets until it is left as a context. `url` is its address, for queries and for pushes."""

    def __init__(
        self, folder: Path, target: str | Sequence[str], interval_s: float, arguments: Sequence[str] = ()
    ) -> None:
        program = binary()
        assert program is not None
        self.url = f"http://127.0.0.1:{prometheus.free_port()}"
        targets = [target] if isinstance(target, str) else list(target)
        period = f"{interval_s * 1000:.0f}ms"
        document = {
            "global": {"scrape_interval": period, "scrape_timeout": period},
            "scrape_configs": [{"job_name": "carbonmon", "static_configs": [{"targets": targets}]}],
        }
        config = folder / "victoria-metrics.yml"
        config.write_text(json.dumps(document))
        self._command = [
            program,
            f"-promscrape.config={config}",
            f"-storageDataPath={folder / 'victoria-metrics'}",
            f"-httpListenAddr={self.url.removeprefix('http://')}",
            *arguments,
        ]
        self._process = self._started()

    def __enter__(self) -> VictoriaMetrics:
        command.wait_for(self._is_ready, "VictoriaMetrics")
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
        command.wait_for(self._is_ready, "VictoriaMetrics")

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _is_ready(self) -> bool:
        try:
            return "OK" in command.get(f"{self.url}/health")
        except OSError:
            return False

    def query(self, text: str, at_s: float | None = None) -> list[Any]:
        """The result of an instant query, for now or for a Unix time: without `nocache` now is 30 s ago."""
        at_s = time.time() if at_s is None else at_s
        result: list[Any] = self._ask("query", query=text, time=f"{at_s:.3f}", nocache="1")["result"]
        return result

    def query_range(self, text: str, span_s: float, step_s: float, end_s: float | None = None) -> list[Any]:
        """The result of a query over the `span_s` seconds until `end_s` (now), as the API gives it."""
        now_s = time.time() if end_s is None else end_s
        times = {"start": f"{now_s - span_s:.3f}", "end": f"{now_s:.3f}", "step": f"{step_s:g}"}
        result: list[Any] = self._ask("query_range", query=text, nocache="1", **times)["result"]
        return result

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

"""A real Prometheus on loopback: the machine's own, or Debian's package unpacked below build/."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support import command, debian


def binary() -> str | None:
    """The program, fetched once with apt where it is missing; None where that cannot be done."""
    return debian.program("prometheus")


def version() -> tuple[int, int]:
    """Major and minor of the program."""
    program = binary()
    assert program is not None
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", told)
    assert found is not None, told
    return int(found[1]), int(found[2])


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


class Prometheus:
    """Scrapes its targets, and evaluates its rules as often, until it is left as a context.

    `pools` are more targets, each with a scrape pool (`pool-N`) and so with connections and an offset of its
    own. `log` is what it writes.
    """

    def __init__(
        self,
        folder: Path,
        target: str | Sequence[str],
        interval_s: float,
        rule_files: Sequence[Path] = (),
        pools: Sequence[str] = (),
    ) -> None:
        program = binary()
        assert program is not None
        self._port = free_port()
        config = folder / "prometheus.yml"
        period = f"{interval_s * 1000:.0f}ms"
        targets = [target] if isinstance(target, str) else list(target)
        # JSON is YAML.
        document = {
            "global": {
                "scrape_interval": period,
                "scrape_timeout": period,
                "evaluation_interval": period,
            },
            "rule_files": [str(path) for path in rule_files],
            "scrape_configs": [
                {"job_name": name, "static_configs": [{"targets": where}]}
                for name, where in [
                    ("carbonmon", targets),
                    *((f"pool-{number}", [pool]) for number, pool in enumerate(pools)),
                ]
            ],
        }
        config.write_text(json.dumps(document))
        self._command = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self.log = folder / "prometheus.log"
        self._process = self._started()

    def __enter__(self) -> Prometheus:
        command.wait_for(self._is_ready, "Prometheus")
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
        command.wait_for(self._is_ready, "Prometheus")

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=log)

    def _is_ready(self) -> bool:
        try:
            return "Ready" in command.get(f"http://127.0.0.1:{self._port}/-/ready")
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def query(self, text: str, at_s: float | None = None) -> list[Any]:
        """The result of an instant query, for now or for a Unix time, as the API gives it."""
        at_s = time.time() if at_s is None else at_s
        result: list[Any] = self._ask("query", query=text, time=f"{at_s:.3f}")["result"]
        return result

    def query_range(self, text: str, span_s: float, step_s: float, end_s: float | None = None) -> list[Any]:
        """The result of a query over the `span_s` seconds until `end_s` (now), as the API gives it."""
        now_s = time.time() if end_s is None else end_s
        times = {"start": f"{now_s - span_s:.3f}", "end": f"{now_s:.3f}", "step": f"{step_s:g}"}
        result: list[Any] = self._ask("query_range", query=text, **times)["result"]
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
            answer = command.get(f"http://127.0.0.1:{self._port}/api/v1/{what}?{question}")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        return json.loads(answer)["data"]


class Agent:
    """A Prometheus in agent mode with a config of its own, until it is left as a context."""

    def __init__(self, folder: Path, config: str) -> None:
        program = binary()
        assert program is not None
        path = folder / "agent.yml"
        path.write_text(config)
        self._ready = f"http://127.0.0.1:{free_port()}/-/ready"
        arguments = [
            "--agent" if version() >= (3, 0) else "--enable-feature=agent",
            f"--config.file={path}",
            f"--storage.agent.path={folder / 'agent'}",
            f"--web.listen-address={self._ready.split('/')[2]}",
        ]
        self._process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> Agent:
        command.wait_for(self._is_ready, "the agent")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=command.DEADLINE_S)

    def _is_ready(self) -> bool:
        try:
            return "Ready" in command.get(self._ready)
        except OSError:
            return False

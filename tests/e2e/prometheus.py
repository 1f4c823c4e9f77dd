"""A real Prometheus on loopback: the machine's own, or Debian's package unpacked below build/."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.e2e import command

BUILD = Path(__file__).resolve().parents[2] / "build" / "prometheus"


@cache
def binary() -> str | None:
    """The program, fetched once with apt where it is missing; None where that cannot be done."""
    unpacked = BUILD / "usr" / "bin" / "prometheus"
    found = shutil.which("prometheus") or (str(unpacked) if unpacked.exists() else None)
    if found or not shutil.which("apt-get"):
        return found
    BUILD.mkdir(parents=True, exist_ok=True)
    for step in (["apt-get", "update", "-qq"], ["apt-get", "download", "-qq", "prometheus"]):
        subprocess.run(step, cwd=BUILD, capture_output=True, timeout=300, check=False)
    for package in BUILD.glob("prometheus_*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(BUILD)], check=True)
    return str(unpacked) if unpacked.exists() else None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Prometheus:
    """Scrapes one target from construction to `close`."""

    def __init__(self, folder: Path, target: str, interval_s: float) -> None:
        program = binary()
        assert program is not None
        self._port = free_port()
        config = folder / "prometheus.yml"
        period = f"{interval_s * 1000:.0f}ms"
        config.write_text(
            f"global: {{scrape_interval: {period}, scrape_timeout: {period}}}\n"
            f'scrape_configs: [{{job_name: carbonmon, static_configs: [{{targets: ["{target}"]}}]}}]\n'
        )
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> Prometheus:
        command.wait_for(self._is_ready, "Prometheus")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=command.DEADLINE_S)

    def _is_ready(self) -> bool:
        try:
            return "Ready" in command.get(f"http://127.0.0.1:{self._port}/-/ready")
        except OSError:
            return False

    def query(self, text: str) -> list[Any]:
        """The result of an instant query, as the API gives it."""
        question = urllib.parse.urlencode({"query": text, "time": f"{time.time():.3f}"})
        answer = json.loads(command.get(f"http://127.0.0.1:{self._port}/api/v1/query?{question}"))
        result: list[Any] = answer["data"]["result"]
        return result

    def number(self, text: str) -> float | None:
        """The value of a query that gives one series; None without one."""
        result = self.query(text)
        return float(result[0]["value"][1]) if result else None

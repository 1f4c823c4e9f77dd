"""A real Prometheus and a real VictoriaMetrics with scrape configs and arguments of their own."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import command, prometheus, victoriametrics

SCRAPE_S = 15.0
RULES_S = 30.0


class PrometheusStore(prometheus.Configured):
    """A Prometheus; rules are evaluated each `RULES_S`."""

    kind = "Prometheus"

    def __init__(
        self,
        folder: Path,
        scrapes: Sequence[dict[str, Any]],
        arguments: Sequence[str] = (),
        rules: Sequence[Path] = (),
    ) -> None:
        folder.mkdir()
        config = document(scrapes)
        config["global"]["evaluation_interval"] = f"{RULES_S:g}s"
        config["rule_files"] = [str(path) for path in rules]
        super().__init__(folder, json.dumps(config), arguments)

    def warnings(self) -> int:
        """How many warnings it has logged, samples that it refused among them."""
        return len(re.findall(r"level=warn", self.log.read_text(), re.IGNORECASE))

    @staticmethod
    def takes_otlp() -> bool:
        """Whether it has a receiver: Debian builds Prometheus without."""
        program = prometheus.binary()
        assert program is not None
        return "web.enable-otlp-receiver" in _help(program)

    def own(self, names: Mapping[str, str]) -> dict[str, float]:
        """Metrics of the server itself, by other names."""
        return _sums(self.url, names)


class VictoriaStore(victoriametrics.Configured):
    """A VictoriaMetrics. It evaluates no rules."""

    kind = "VictoriaMetrics"

    def __init__(
        self, folder: Path, scrapes: Sequence[dict[str, Any]], arguments: Sequence[str] = ()
    ) -> None:
        folder.mkdir()
        super().__init__(folder, json.dumps(document(scrapes)), arguments)

    @staticmethod
    def options() -> str:
        program = victoriametrics.binary()
        assert program is not None
        return _help(program)

    def takes_otlp(self) -> bool:
        """Whether it has a receiver: Debian 12's has none."""
        try:
            urllib.request.urlopen(f"{self.url}/opentelemetry/v1/metrics", b"", command.DEADLINE_S).close()
        except urllib.error.HTTPError:
            return False
        return True

    def own(self, names: Mapping[str, str]) -> dict[str, float]:
        """Metrics of the server itself, by other names."""
        return _sums(self.url, names)


def document(scrapes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A config that scrapes each `SCRAPE_S`."""
    period = f"{SCRAPE_S:g}s"
    timing = {"scrape_interval": period, "scrape_timeout": period}
    return {"global": timing, "scrape_configs": list(scrapes)}


def _help(program: str) -> str:
    told = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return told.stdout + told.stderr


def _sums(url: str, names: Mapping[str, str]) -> dict[str, float]:
    """Sums over all lines of the server's own `/metrics` that begin with a name, or with a whole series."""
    lines = command.get(f"{url}/metrics").splitlines()
    return {
        key: sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))
        for key, name in names.items()
    }

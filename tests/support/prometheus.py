"""A real Prometheus on loopback: the machine's own, or Debian's package unpacked below build/."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support import debian
from tests.support.servers import Server, Store, free_port, scrape_config

__all__ = ["Agent", "Configured", "Prometheus", "binary", "free_port", "version"]


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


class Configured(Store):
    """A Prometheus with a config of its own. `log` is what it writes."""

    def __init__(self, folder: Path, config: str, arguments: Sequence[str] = ()) -> None:
        super().__init__(binary(), "/-/ready", "Ready")
        path = folder / "prometheus.yml"
        path.write_text(config)
        self.log = folder / "prometheus.log"
        self.launch(
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={self.target}",
            *arguments,
            log=self.log,
        )


class Prometheus(Configured):
    """Scrapes its targets, and evaluates its rules as often.

    `pools` are more targets, each with a scrape pool (`pool-N`) and so with connections and an offset of its
    own. With `honors_labels` what it scrapes keeps its labels `job` and `instance`.
    """

    def __init__(
        self,
        folder: Path,
        target: str | Sequence[str],
        interval_s: float,
        rule_files: Sequence[Path] = (),
        pools: Sequence[str] = (),
        *,
        honors_labels: bool = False,
    ) -> None:
        targets = [target] if isinstance(target, str) else list(target)
        own = [(f"pool-{number}", [pool]) for number, pool in enumerate(pools)]
        document = scrape_config(interval_s, [("carbonmon", targets), *own])
        document["global"]["evaluation_interval"] = document["global"]["scrape_interval"]
        for job in document["scrape_configs"]:
            job["honor_labels"] = honors_labels
        document["rule_files"] = [str(path) for path in rule_files]
        super().__init__(folder, json.dumps(document))  # JSON is YAML


class Agent(Server):
    """A Prometheus in agent mode with a config of its own."""

    def __init__(self, folder: Path, config: str) -> None:
        super().__init__(binary(), "/-/ready", "Ready")
        path = folder / "agent.yml"
        path.write_text(config)
        self.launch(
            "--agent" if version() >= (3, 0) else "--enable-feature=agent",
            f"--config.file={path}",
            f"--storage.agent.path={folder / 'agent'}",
            f"--web.listen-address={self.target}",
            log=folder / "agent.log",
        )

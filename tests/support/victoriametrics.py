"""A real VictoriaMetrics on loopback: the machine's own, or Debian's package unpacked below build/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tests.support import debian
from tests.support.servers import Store, scrape_config


def binary() -> str | None:
    """The program, fetched once with apt where it is missing; None where that cannot be done."""
    return debian.program("victoria-metrics")


class Configured(Store):
    """A VictoriaMetrics with a scrape config of its own.

    Without `nocache` an instant query for now is answered for 30 s ago.
    """

    always: ClassVar[dict[str, str]] = {"nocache": "1"}

    def __init__(self, folder: Path, config: str, arguments: Sequence[str] = ()) -> None:
        super().__init__(binary(), "/health", "OK")
        path = folder / "victoria-metrics.yml"
        path.write_text(config)
        self.launch(
            f"-promscrape.config={path}",
            f"-storageDataPath={folder / 'victoria-metrics'}",
            f"-httpListenAddr={self.target}",
            *arguments,
        )


class VictoriaMetrics(Configured):
    """Scrapes its targets."""

    def __init__(
        self, folder: Path, target: str | Sequence[str], interval_s: float, arguments: Sequence[str] = ()
    ) -> None:
        targets = [target] if isinstance(target, str) else list(target)
        super().__init__(folder, json.dumps(scrape_config(interval_s, [("carbonmon", targets)])), arguments)

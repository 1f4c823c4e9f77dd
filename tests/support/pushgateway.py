"""Where results wait to be scraped: a real Pushgateway, a real node_exporter, and who looks there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import command, debian, prometheus
from tests.support.servers import Server

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

PACKAGES = ("prometheus-pushgateway", "prometheus-node-exporter")


def are_here() -> bool:
    """Whether all programs of these tests can be had."""
    return prometheus.binary() is not None and all(map(debian.program, PACKAGES))


class Exporter(Server):
    """A program of Debian's that serves metrics."""

    def __init__(self, package: str, *arguments: str) -> None:
        super().__init__(debian.program(package), "/metrics")
        self.launch(f"--web.listen-address={self.target}", *arguments)

    def samples(self, prefix: str = "carbonmon_") -> list[Sample]:
        """What it shows now under names that begin so."""
        from prometheus_client.parser import text_string_to_metric_families  # not for tests.support.tools

        text = command.get(f"{self.url}/metrics")
        return [
            sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith(prefix)
        ]


class Pushgateway(Exporter):
    def __init__(self) -> None:
        super().__init__("prometheus-pushgateway")


class NodeExporter(Exporter):
    """Reads textfiles from one folder, and nothing else of the node."""

    def __init__(self, textfiles: Path) -> None:
        super().__init__(
            "prometheus-node-exporter",
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={textfiles}",
        )

"""Where results wait to be scraped: a real Pushgateway, a real node_exporter, and who looks there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.support import command, debian, prometheus

PACKAGES = ("prometheus-pushgateway", "prometheus-node-exporter")


def are_here() -> bool:
    """Whether all programs of these tests can be had."""
    return prometheus.binary() is not None and all(map(debian.program, PACKAGES))


class Server:
    """A program of Debian's that serves metrics at a port of loopback until it is closed."""

    def __init__(self, package: str, *arguments: str) -> None:
        program = debian.program(package)
        assert program is not None
        port = prometheus.free_port()
        self.target = f"127.0.0.1:{port}"
        self.url = f"http://{self.target}"
        self._process = subprocess.Popen(
            [program, f"--web.listen-address={self.target}", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Server:
        command.wait_for(self._is_ready, self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=command.DEADLINE_S)

    def _is_ready(self) -> bool:
        try:
            return bool(command.get(f"{self.url}/metrics"))
        except OSError:
            return False

    def samples(self, prefix: str = "carbonmon_") -> list[Sample]:
        """What it shows now under names that begin so."""
        text = command.get(f"{self.url}/metrics")
        return [
            sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith(prefix)
        ]


class Pushgateway(Server):
    def __init__(self) -> None:
        super().__init__("prometheus-pushgateway")


class NodeExporter(Server):
    """Reads textfiles from one folder, and nothing else of the node."""

    def __init__(self, textfiles: Path) -> None:
        super().__init__(
            "prometheus-node-exporter",
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={textfiles}",
        )


class HonoringPrometheus(prometheus.Prometheus):
    """A Prometheus that keeps the labels `job` and `instance` of what it scrapes."""

    def __init__(self, folder: Path, target: str, interval_s: float) -> None:
        program = prometheus.binary()
        assert program is not None
        self._port = prometheus.free_port()
        config = folder / "prometheus.yml"
        period = f"{interval_s * 1000:.0f}ms"
        config.write_text(
            f"global: {{scrape_interval: {period}, scrape_timeout: {period}}}\n"
            "scrape_configs: [{job_name: waiting, honor_labels: true, "
            f'static_configs: [{{targets: ["{target}"]}}]}}]\n'
        )
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        self._process = subprocess.Popen(
            [program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

"""Which machine an endpoint is on, so that two monitors of one machine are told from two machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from carbonmon.core.metrics import MACHINE
from carbonmon.runs.holder import boot_id
from carbonmon_exporters.families import as_info, empty


class MachineCollector(Collector):
    """`machine_info` of the kernel that `procfs` shows; nothing where it hides its boot."""

    def __init__(self, procfs: Path) -> None:
        self._boot_id = boot_id(procfs)

    def describe(self) -> list[Metric]:
        return [empty(MACHINE)]

    def collect(self) -> Iterator[Metric]:
        if self._boot_id:
            family = as_info(MACHINE)
            family.add_metric((), {MACHINE.labels[0]: self._boot_id})
            yield family

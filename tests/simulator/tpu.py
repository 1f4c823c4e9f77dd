"""A machine with TPUs: its PCI devices below a sysfs root, and the runtime's metrics over real gRPC."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from tpu_info.proto import tpu_metric_service_pb2 as messages
from tpu_info.proto import tpu_metric_service_pb2_grpc as services

V2, V3 = ("0x0027", "0x004e"), ("0x0027", "0x004f")
V4, V5E, V5P, V6E, V7X = ((model, "0x0000") for model in ("0x005e", "0x0063", "0x0062", "0x006f", "0x0076"))
METRIC = "tpu.runtime.tensorcore.dutycycle.percent"


class TpuTree:
    """TPUs as Linux shows them: v4 and older by a driver of accelerators, v5e and later by vfio-pci."""

    def __init__(
        self,
        sysfs: Path,
        generation: tuple[str, str],
        number: int,
        *,
        vfio: bool = True,
        functions: int = 1,
        vendor: str = "0x1ae0",
    ) -> None:
        self.sysfs = sysfs
        self.ids: list[str] = []
        for place in range(number):
            base = f"0000:00:{4 + place:02x}"
            self.ids.append(f"TPU-{base}")
            for function in range(functions):
                folder = sysfs / "devices/pci0000:00" / f"{base}.{function}"
                folder.mkdir(parents=True)
                for name, text in zip(("device", "subsystem_device"), generation, strict=True):
                    (folder / name).write_text(f"{text}\n")
                (folder / "vendor").write_text(f"{vendor}\n")
                self._link("bus/pci/devices", folder.name, folder)
                if vfio:
                    group = sysfs / "kernel/iommu_groups" / str(10 + place * functions + function)
                    group.mkdir(parents=True)
                    (folder / "iommu_group").symlink_to(group)
                    self._link("bus/pci/drivers/vfio-pci", folder.name, folder)
                else:
                    (sysfs / f"class/accel/accel{place}").mkdir(parents=True)
                    self._link(f"class/accel/accel{place}", "device", folder)

    def _link(self, parent: str, name: str, folder: Path) -> None:
        (self.sysfs / parent).mkdir(parents=True, exist_ok=True)
        (self.sysfs / parent / name).symlink_to(folder)


class MetricsService(services.RuntimeMetricServiceServicer):  # type: ignore[misc] # it has no types
    """libtpu's service, which is there while a program uses the chips. `percents` gives the rows of now.

    Faults: `code` is an error to answer with, `hangs` is an event that is waited for before an answer,
    `metrics` are whole rows instead of those of `percents`.
    """

    def __init__(self, percents: Callable[[], Sequence[float]], port: int = 0) -> None:
        self.percents = percents
        self.code: Any = None
        self.hangs: threading.Event | None = None
        self.metrics: list[Any] | None = None
        self.first = 0
        self.asked: Counter[str] = Counter()
        self._pool = futures.ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool)
        services.add_RuntimeMetricServiceServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port(f"localhost:{port}", grpc.local_server_credentials())
        self._server.start()

    def __enter__(self) -> MetricsService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """The program ends, and its service with it."""
        if self.hangs is not None:
            self.hangs.set()
        self._server.stop(None).wait()
        self._pool.shutdown()

    def GetRuntimeMetric(self, request: Any, context: Any) -> Any:  # noqa: N802 (gRPC's name)
        self.asked[request.metric_name] += 1
        if self.hangs is not None:
            self.hangs.wait(30.0)
        if self.code is not None:
            context.abort(self.code, "as the test wants it")
        rows = self.metrics
        if rows is None:
            rows = [row(self.first + place, percent) for place, percent in enumerate(self.percents())]
        return messages.MetricResponse(metric=messages.TPUMetric(name=request.metric_name, metrics=rows))


def row(number: int, percent: float) -> Any:
    """One row of an answer, as libtpu makes it."""
    key = messages.AttrValue(int_attr=number)
    return messages.Metric(
        attribute=messages.Attribute(key="device-id", value=key), gauge=messages.Gauge(as_double=percent)
    )


def since_start() -> Callable[[], float]:
    """Seconds since now."""
    start_s = time.monotonic()
    return lambda: time.monotonic() - start_s

"""Asks the TPU runtime of running programs for the duty cycle of their chips, over gRPC on this machine.

The service is libtpu's; its messages are those of the package tpu-info, which brings gRPC. It is there only
while a program uses the chips.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.records import NamedTuple

METRIC = "tpu.runtime.tensorcore.dutycycle.percent"
DEFAULT_PORT = 8431
PORTS_VARIABLE = "TPU_RUNTIME_METRICS_PORTS"
"""Where several programs use the chips, each serves at one of these ports (libtpu)."""

MOST_PORTS = 16
TIMEOUT_S = 0.8
"""For one answer. The sensor is read in a thread of its own, whose answer a tick awaits for a second."""

LONGEST_BACKOFF_MS = 5000
"""A job may begin at any time: its service is looked for again at least so often."""

INSTALL = "pip install 'carbonmon[tpu]'"


class Row(NamedTuple):
    """The duty cycle of a chip, or of one of its cores, by the number that the runtime gives to it."""

    number: int
    ratio: float


class BadAnswer(Exception):
    """An answer that is none. `reason` is a short word for a label."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def addresses(argument: str, environ: Mapping[str, str]) -> list[str]:
    """Where to ask: what the user gave, else the ports that the environment lists, else the usual one.

    Raises `ConfigError` where the user gave neither a port nor a host with one.
    """
    if argument:
        host, _, port = argument.rpartition(":")
        if not _is_port(port) or (
            ":" in argument and re.fullmatch(r"[\w.-]+|\[[0-9a-fA-F:]+\]", host) is None
        ):
            raise ConfigError(
                f"--sensor tpu:{argument:.80}: this is no PORT and no HOST:PORT; give for example tpu:8431"
            )
        return [f"{host or 'localhost'}:{port}"]
    ports = [port.strip() for port in environ.get(PORTS_VARIABLE, "").split(",")]
    valid = [port for port in ports if _is_port(port)]
    return [f"localhost:{port}" for port in dict.fromkeys(valid[:MOST_PORTS]) or [f"{DEFAULT_PORT}"]]


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 0 < int(text) < 65536


class DutyCycleClient:
    """The service at one address. The connection is made by the first question."""

    def __init__(self, address: str) -> None:
        """Raises `SensorUnavailable` where the package is missing or does not fit its gRPC."""
        self.address = address
        grpc, messages, service = _packages()
        self._grpc = grpc
        options = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", LONGEST_BACKOFF_MS))
        self._channel = grpc.secure_channel(address, grpc.local_channel_credentials(), options)
        self._ask = service.RuntimeMetricServiceStub(self._channel).GetRuntimeMetric
        self._request = messages.MetricRequest(metric_name=METRIC)

    def read(self) -> list[Row]:
        """The rows that a program tells, by number; none where no program serves. Raises `BadAnswer`."""
        try:
            answer = self._ask(self._request, timeout=TIMEOUT_S)
        except self._grpc.RpcError as error:
            if error.code() == self._grpc.StatusCode.UNAVAILABLE:
                return []
            raise self._translated(error) from None
        rows = [_row(each) for each in answer.metric.metrics]
        return sorted(rows, key=lambda row: row.number)

    def close(self) -> None:
        self._channel.close()

    def _translated(self, error: Any) -> BadAnswer:
        code = error.code()
        codes = self._grpc.StatusCode
        reason = {
            codes.DEADLINE_EXCEEDED: "timeout",
            codes.PERMISSION_DENIED: "permission",
            codes.UNAUTHENTICATED: "permission",
            codes.UNIMPLEMENTED: "unsupported",
            codes.NOT_FOUND: "unsupported",
            codes.INVALID_ARGUMENT: "unsupported",
        }.get(code, "io")
        return BadAnswer(reason, f"{self.address}: {code.name}: {error.details() or 'no detail'}")


def _packages() -> tuple[Any, Any, Any]:
    """gRPC, the service's messages and its calls; raises `SensorUnavailable` where they cannot be loaded."""
    try:
        import grpc
        from tpu_info.proto import tpu_metric_service_pb2, tpu_metric_service_pb2_grpc
    except ModuleNotFoundError as error:
        raise SensorUnavailable(f"the package tpu-info is not installed ({error})", INSTALL) from None
    except Exception as error:  # noqa: BLE001 (generated code that does not fit its gRPC)
        text = f"the package tpu-info cannot be loaded: {type(error).__name__}: {error}"
        raise SensorUnavailable(text, INSTALL) from None
    return grpc, tpu_metric_service_pb2, tpu_metric_service_pb2_grpc


def _row(metric: Any) -> Row:
    """One row of an answer; raises `BadAnswer` for a duty cycle that is none."""
    gauge = metric.gauge
    kind = gauge.WhichOneof("value")
    percent = {"as_double": gauge.as_double, "as_int": float(gauge.as_int)}.get(kind, math.nan)
    if not 0.0 <= percent <= 100.0:
        raise BadAnswer("garbage", f"a duty cycle of {percent} % is none")
    return Row(metric.attribute.value.int_attr, percent / 100.0)


def by_chip(answers: Sequence[Sequence[Row]], chips: int, cores: int) -> list[float | None]:
    """The duty cycle of each of `chips` in their order; None where no answer tells it.

    `answers` are those of the programs that serve, in the order of their ports. A runtime tells a chip once,
    or once for each of its `cores`, all alike. Several programs may each number their own chips from 0: then
    they have them in the order of the ports. Raises `BadAnswer` for more rows than the chips have.
    """
    numbers = [row.number for rows in answers for row in rows]
    rows = [row for rows in answers for row in rows]
    if len(set(numbers)) == len(numbers):
        rows.sort(key=lambda row: row.number)
    if len(rows) > chips:
        if cores == 1 or len(rows) % cores or len(rows) > chips * cores:
            raise BadAnswer("garbage", f"{len(rows)} duty cycles of {chips} chips")
        ratios = [max(row.ratio for row in rows[at : at + cores]) for at in range(0, len(rows), cores)]
    else:
        ratios = [row.ratio for row in rows]
    found: list[float | None] = [None] * chips
    found[: len(ratios)] = ratios
    return found

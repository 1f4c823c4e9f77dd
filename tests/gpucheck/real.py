"""A real GPU as the subject."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gpucheck.calls import answer
from tests.gpucheck.loads import Loads, Pair, WorkerLoad
from tests.gpucheck.subject import RealClock, Subject


@dataclass
class RealSubject(Subject):
    """A GPU of this machine; `workers` are the processes that load it, the first is its `load`."""

    workers: Sequence[WorkerLoad] = ()
    loads: Loads | None = None

    def two_loads(self) -> Pair | None:
        return Pair(*self.workers[:2]) if len(self.workers) > 1 else None

    @property
    def training(self) -> list[str]:
        return super().training if self.loads is None or not self.workers else self.loads.training

    @property
    def training_python(self) -> str:
        return super().training_python if self.loads is None else self.loads.python


@contextmanager
def real_subject(nvml: Any, index: int, may_lower_limit: bool) -> Iterator[RealSubject]:
    """The GPU with that NVML index, with two idle processes ready to load it, if anything can.

    `nvml` is pynvml, initialised. Raises NVML's error where there is no such GPU.
    """
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    uuid = nvml.nvmlDeviceGetUUID(handle)
    name = answer(nvml, lambda: nvml.nvmlDeviceGetName(handle))[1] or "NVIDIA GPU"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carbonmon-gpu-check-")))
        environ = {} if _has_instances(nvml, handle) else {"CUDA_VISIBLE_DEVICES": uuid}
        loads = Loads(environ, folder)
        stack.callback(loads.close)
        workers = loads.start(2)
        subject = RealSubject(
            nvml=nvml,
            handle=handle,
            uuid=uuid,
            name=name,
            index=index,
            clock=RealClock(),
            load=workers[0] if workers else None,
            simulated=False,
            environ=environ,
            may_lower_limit=may_lower_limit,
            workers=workers,
            loads=loads,
        )
        if not workers:
            subject.missing.append(("a load", "; ".join(loads.why) + ": only the idle GPU is looked at"))
        if os.geteuid() != 0 and may_lower_limit:
            subject.missing.append(("root", "the power limit cannot be lowered"))
        yield subject


def _has_instances(nvml: Any, handle: Any) -> bool:
    """Whether it is in MIG mode: then CUDA takes an instance, and CUDA_VISIBLE_DEVICES is left alone."""
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except nvml.NVMLError:
        return False

"""Work for a GPU in this process: a short burst by PyTorch or CuPy, or none at all."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST_S = 0.004
"""A burst is about so long: the edges of a square wave are as sharp as that."""
SIZE = 4096

Burst = Callable[[], None]


def torch_burst() -> Burst:
    """Matrix products in bfloat16 on random data; returns when they are done."""
    import torch

    first, second = (torch.randn(SIZE, SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    result = torch.empty_like(first)

    def burst(count: int) -> None:
        for _ in range(count):
            torch.mm(first, second, out=result)
        torch.cuda.synchronize()

    return _fitted(burst)


def cupy_burst() -> Burst:
    """The same with CuPy, in half precision."""
    import cupy

    first, second = (cupy.random.rand(SIZE, SIZE, dtype=cupy.float32).astype(cupy.float16) for _ in range(2))
    result = cupy.empty_like(first)

    def burst(count: int) -> None:
        for _ in range(count):
            cupy.matmul(first, second, out=result)
        cupy.cuda.runtime.deviceSynchronize()

    return _fitted(burst)


def torch_training() -> Burst:
    """Steps of a real training loop: forward, backward and optimiser of a small network."""
    import torch

    layers = [torch.nn.Linear(SIZE, SIZE), torch.nn.ReLU(), torch.nn.Linear(SIZE, SIZE)]
    model = torch.nn.Sequential(*layers).to("cuda", torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    data, target = (torch.randn(1024, SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(data), target).backward()
            optimizer.step()
        torch.cuda.synchronize()

    return _fitted(steps)


def waiting() -> None:
    """A burst of nothing, for a simulated GPU, whose power is a profile."""
    time.sleep(BURST_S)


def _fitted(burst: Callable[[int], None]) -> Burst:
    """A burst of the right length, after what is slow the first time."""
    burst(1)
    burst(1)
    count, took_s = 1, 0.0
    while took_s < BURST_S / 2 and count < 4096:
        count *= 2
        begin_s = time.perf_counter()
        burst(count)
        took_s = time.perf_counter() - begin_s
    return lambda: burst(count)


WORK: dict[str, Callable[[], Burst]] = {
    "torch": torch_burst,
    "cupy": cupy_burst,
    "waiting": lambda: waiting,
}

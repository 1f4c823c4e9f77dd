"""Tasks of Ray that track: in workers that are older than the driver's own track()."""

from __future__ import annotations

import time

import ray

import carbonmon


@ray.remote
def work(seconds: float) -> str | None:
    with carbonmon.track(name="worker") as run:
        time.sleep(seconds)
        return run.id


@ray.remote
def wake() -> None:
    pass


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
ray.get([wake.remote() for _ in range(4)])
with carbonmon.track(name="driver") as run:
    print(f"run {run.id}\n", end="", flush=True)
    for run_id in ray.get([work.remote(3.0) for _ in range(2)]):
        print(f"run {run_id}\n", end="", flush=True)
ray.shutdown()

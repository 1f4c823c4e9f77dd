"""A scripted day of a node of constant power, seen by real stores, and what was true at each moment.

Phases change, the monitor is killed and started again, the stores stand still for a while, a second run is
registered, and a third one has a monitor of its own beside the node's. All times are in scrapes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command, grafana, prometheus, victoriametrics
from tests.support.daemon import Daemon

RULES = [
    grafana.FOLDER.parent / "prometheus" / name for name in ("carbonmon.rules.yml", "carbonmon.alerts.yml")
]
GPU_W, PACKAGE_W, DRAM_W = 300.0, 120.0, 15.0
NODE_W = 2 * GPU_W + PACKAGE_W + DRAM_W
PUE, INTENSITY = 1.25, 400.0
GRAMS_PER_J = PUE * INTENSITY / 3.6e6
FIRST, SECOND, THIRD = "first", "second", "third"

Store = prometheus.Prometheus | victoriametrics.VictoriaMetrics


class Stretch(NamedTuple):
    """Power (W) from `start_s` to `end_s`, Unix times."""

    start_s: float
    end_s: float
    watts: float


@dataclass
class Seen:
    """Who saw it, and the truth: when each run drew how much, and when there was nothing to be scraped."""

    stores: dict[str, Store]
    targets: tuple[str, str]
    scrape_s: float
    start_s: float = 0.0
    end_s: float = 0.0
    power: dict[str, list[Stretch]] = field(default_factory=dict)
    silent: list[Stretch] = field(default_factory=list)
    """Without a monitor of the node."""
    paused: list[Stretch] = field(default_factory=list)
    """Without a store."""

    @property
    def range_s(self) -> float:
        """The time range of a dashboard that holds all of it."""
        return 120.0 * self.scrape_s

    @property
    def lag_s(self) -> float:
        """How old what is shown may be: what is not safe on disk yet is not shown."""
        return 1.0 + 0.2 * self.scrape_s

    def watts(self, run_id: str, at_s: float) -> float | None:
        """The power of a run at a moment; None when it did not run."""
        for stretch in self.power.get(run_id, ()):
            if stretch.start_s <= at_s < stretch.end_s:
                return stretch.watts
        return None

    def joules(self, run_id: str, until_s: float) -> float:
        """What a run drew until then, also while nobody looked: its counters had it."""
        return sum(
            stretch.watts * max(0.0, min(until_s, stretch.end_s) - stretch.start_s)
            for stretch in self.power.get(run_id, ())
        )

    def changes_s(self, run_ids: Sequence[str]) -> list[float]:
        """When the power of these runs, or what can be scraped, began or ended to be so."""
        stretches = [*self.silent, *(each for run_id in run_ids for each in self.power.get(run_id, ()))]
        return sorted(at_s for each in stretches for at_s in (each.start_s, each.end_s))


def _times(summary: Mapping[str, Any]) -> Stretch:
    """When a run was, by its summary, at the power of the whole node."""
    begin, end = (datetime.fromisoformat(summary["run"][key]) for key in ("started_at", "ended_at"))
    return Stretch(begin.timestamp(), end.timestamp(), NODE_W)


class _Script:
    def __init__(self, folder: Path, machine: Simulator, seen: Seen, options: Sequence[str]) -> None:
        self._folder, self._machine, self._seen, self._options = folder, machine, seen, options
        self._origin_s = 0.0
        self.node = self._started()

    def play(self) -> None:
        seen = self._seen
        self._until_scraped()
        self._origin_s = seen.start_s = time.time()
        self.node.register(FIRST, "--idle", "exclusive", "--label", "user=ada")
        self._phase("load", 0)
        self._phase("train", 5)
        self._phase("eval", 9)
        self._phase("train", 11)
        self._wait(15)
        killed_s = time.time()
        self.stop()
        self._wait(18)
        self.node = self._started()
        seen.silent.append(Stretch(killed_s, time.time(), 0.0))
        self._wait(26)
        paused_s = time.time()
        for store in seen.stores.values():
            store.stop()
        self._wait(30)
        for store in seen.stores.values():
            store.start()
        self._until_scraped()
        seen.paused.append(Stretch(paused_s, time.time(), 0.0))
        self._wait(36)
        self.node.register(SECOND, "--gpus", "1", "--idle", "none", "--label", "user=bob")
        self._phase("eval", 40)
        self._wait(44)
        first = _times(self.node.unregister(FIRST))
        self._wait(46)
        second = _times(self.node.unregister(SECOND))
        # Both claim the GPU, so that each gets half of it while both are there.
        seen.power[FIRST] = [
            Stretch(first.start_s, second.start_s, NODE_W),
            Stretch(second.start_s, first.end_s, NODE_W - GPU_W / 2),
        ]
        seen.power[SECOND] = [
            Stretch(second.start_s, first.end_s, GPU_W / 2),
            Stretch(first.end_s, second.end_s, GPU_W),
        ]
        self._third()
        self._wait(56)
        seen.end_s = time.time()

    def stop(self) -> None:
        self.node.process.kill()
        self.node.process.communicate()

    def _third(self) -> None:
        """A run whose own monitor stands beside the node's."""
        words = ["run", "--own-monitor", "--run-id", THIRD, "--gpus", "0,1", "--idle", "exclusive"]
        words += ["--listen", self._seen.targets[1], "--label", "user=bob", *self._options]
        seconds = 7 * self._seen.scrape_s
        done = command.run(
            [*words, "--", "sleep", f"{seconds:g}"], self._folder, env=self._machine.environ, timeout_s=600.0
        )
        assert done.returncode == 0, done.stderr
        self._seen.power[THIRD] = [_times(command.summary(self._folder))]

    def _started(self) -> Daemon:
        return Daemon(self._machine, self._folder, "--listen", self._seen.targets[0], *self._options)

    def _until_scraped(self) -> None:
        """Prometheus finds a target only some seconds after its start."""
        since_s = time.time()
        newest = f"max(timestamp(carbonmon_last_sample_timestamp_seconds)) > {since_s:.3f}"
        for name, store in self._seen.stores.items():
            command.wait_for(partial(store.query, newest), f"a scrape by {name}")

    def _wait(self, scrapes: float) -> None:
        time.sleep(max(0.0, self._origin_s + scrapes * self._seen.scrape_s - time.time()))

    def _phase(self, name: str, scrapes: float) -> None:
        self._wait(scrapes)
        env = {"CARBONMON_SOCKET": str(self.node.socket), "CARBONMON_RUN": FIRST}
        done = command.run(["phase", name], self._folder, env=env)
        assert (done.returncode, done.stderr) == (0, "")


@contextmanager
def played(folder: Path, scrape_s: float) -> Iterator[Seen]:
    """Play it, some 56 scrapes long, and leave the stores up. Prometheus alone evaluates our rules."""
    rules = [folder / path.name for path in RULES]
    for path, copy in zip(RULES, rules, strict=True):
        copy.write_text(re.sub(r"interval: \d+m", f"interval: {scrape_s:g}s", path.read_text()))
    ports = [f"127.0.0.1:{prometheus.free_port()}" for _ in range(2)]
    interval_s = min(1.0, scrape_s / 4)
    options = ["--pue", f"{PUE}", "--intensity", f"{INTENSITY}", "--wue", "1.8", "--price", "0.3"]
    options += ["--currency", "EUR", "--interval", f"{interval_s:g}", "--checkpoint", f"{interval_s * 2:g}"]
    profile = Constant(GPU_W)
    with ExitStack() as stack:
        machine = stack.enter_context(
            Simulator(
                gpus=[Gpu(profile=profile), Gpu(profile=profile)],
                packages=[Package(profile=Constant(PACKAGE_W), dram=Constant(DRAM_W))],
            )
        )
        stores: dict[str, Store] = {
            "prometheus": stack.enter_context(prometheus.Prometheus(folder, ports, scrape_s, rules))
        }
        if victoriametrics.binary() is not None:
            # Without it the last 30 s of a range are what they were before.
            now = ["-search.latencyOffset=1s"]
            stores["victoria"] = stack.enter_context(
                victoriametrics.VictoriaMetrics(folder, ports, scrape_s, now)
            )
        seen = Seen(stores, (ports[0], ports[1]), scrape_s)
        script = _Script(folder, machine, seen, [*options, "--sysfs", str(machine.sysfs)])
        stack.callback(script.stop)
        script.play()
        yield seen

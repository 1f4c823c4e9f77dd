"""The simulated machine that is measured, and a real `carbonmon run` on it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.simulator import Constant, Gpu, Package, Simulator, Sine, Square, can_wrap
from tests.support import command

AS_PROMETHEUS_ASKS = {
    "Accept": "application/openmetrics-text; version=1.0.0, text/plain; version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}
PATIENCE_S = 20.0


def machine(gpus: int = 8, packages: int = 2) -> Simulator:
    """GPUs that fluctuate and sockets with dram. The counters of RAPL are refreshed at a calm 50 Hz:
    on real hardware that costs no CPU, and here it is not to disturb what is measured."""
    return Simulator(
        gpus=[Gpu(profile=Square(60, 350, 0.7 + 0.1 * (place % 8))) for place in range(gpus)],
        packages=[Package(Sine(120, 40, period_s=5), dram=Constant(15))] * packages,
        powercap_tick_s=0.02,
    )


def inside(sim: Simulator, arguments: Sequence[str]) -> list[str]:
    """The command on that machine: its tree is /sys where mount namespaces are allowed."""
    return sim.wrap(arguments) if can_wrap() else list(arguments)


def sysfs(sim: Simulator) -> str:
    """Where a command that is started with `inside` finds the machine's tree."""
    return "/sys" if can_wrap() else str(sim.sysfs)


def environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A user's environment: any free port, and compiled modules are kept as in every installation."""
    env = command.environ(CARBONMON_LISTEN="127.0.0.1:0", **(more or {}))
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


class Monitored:
    """`carbonmon run` of a job that ends when `end` is called, and what /proc says of it.

    By default the run owns the node: its energy is that of the machine, and nobody looks whose processes
    use it.
    """

    def __init__(
        self,
        sim: Simulator,
        job: Sequence[str] = ("cat",),
        options: Sequence[str] = (),
        idle: str = "exclusive",
        interpreter: str | None = None,
    ) -> None:
        """`interpreter`: the Python whose carbonmon it is; None is this one."""
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="carbonmon-bench-")))
        program = [command.CARBONMON] if interpreter is None else [interpreter, "-m", "carbonmon"]
        runtime = self.folder / "runtime"  # its socket's: two monitors at once would else know each other
        runtime.mkdir(mode=0o700)
        arguments = [*program, "run", "--sysfs", sysfs(sim), "--idle", idle, *options, "--", *job]
        self.process = subprocess.Popen(
            inside(sim, arguments),
            cwd=self.folder,
            env=environ({**sim.environ, "XDG_RUNTIME_DIR": str(runtime)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(self._stop)
        self.url = command.metrics_address(self.process)

    def __enter__(self) -> Monitored:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def cpu_s(self) -> float:
        """CPU time of all its threads, the ended ones included, to the nanosecond.

        The clock id of another process is what clock_getcpuclockid(3) computes: ~pid << 3 | CPUCLOCK_SCHED.
        """
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def threads(self) -> dict[str, tuple[float, int]]:
        """(CPU seconds, voluntary switches) of each living thread; a voluntary switch ends in a wake-up."""
        found = {}
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            status = dict(_fields(task / "status"))
            spent_s = int((task / "schedstat").read_text().split()[0]) / 1e9
            found[f"{status['Name']}-{task.name}"] = (spent_s, int(status["voluntary_ctxt_switches"]))
        return found

    def peak_bytes(self) -> int:
        """VmHWM; 0 when the process has ended."""
        try:
            status = dict(_fields(Path(f"/proc/{self.process.pid}/status")))
        except (OSError, ValueError):
            return 0
        return int(status.get("VmHWM", "0 kB").split()[0]) * 1024

    def scrape(self) -> bytes:
        """One GET as Prometheus makes it."""
        request = urllib.request.Request(self.url, headers=AS_PROMETHEUS_ASKS)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            body: bytes = answer.read()
            return body

    def end(self) -> dict[str, Any]:
        """Let the job end, wait for the monitor, and return its summary."""
        if self.process.stdin is not None:
            self.process.stdin.close()
            self.process.stdin = None
        self.process.wait(PATIENCE_S)
        return command.summary(self.folder)


def _fields(status: Path) -> Iterator[tuple[str, str]]:
    for text in status.read_text().splitlines():
        name, _, value = text.partition(":")
        yield name, value.strip()


def python(sim: Simulator, arguments: Sequence[str]) -> Any:
    """What a Python child on that machine prints, as JSON."""
    done = subprocess.run(
        inside(sim, [sys.executable, *arguments]),
        cwd=Path(__file__).parents[2],
        env=environ(sim.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout)

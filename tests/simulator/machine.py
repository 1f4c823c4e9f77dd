"""The simulated machine as a whole: control file, GPUs, sysfs tree and the daemon that feeds it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from tests.simulator import build, namespace
from tests.simulator.cards import GAUDI, Card, hlml_environ, lead_pyhlml_to, put
from tests.simulator.clock import MachineClock
from tests.simulator.cpus import Cpus
from tests.simulator.gpu import Gpu, LiveGpu
from tests.simulator.hwmon import Chip, Hwmon, open_to_all
from tests.simulator.layout import FUNCTIONS, MAX_GPUS, MAX_ZONES, ControlFile
from tests.simulator.powercap import LiveZone, Package, lay_out, write_tree
from tests.simulator.profiles import Profile

TMPFS = Path("/dev/shm")  # the tree is rewritten a thousand times a second
PATIENCE_S = 10.0


class Simulator:
    """A machine with simulated GPUs, RAPL and chips of hwmon, running from construction to `close`.

    Its files are in tmpfs where there is one, else in `folder` (else in the temporary folder). The thread
    that constructs it must outlive it: powercapd dies with that thread. All times are seconds of
    CLOCK_BOOTTIME unless they are said to be Unix times.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        gpus: Sequence[Gpu] = (),
        packages: Sequence[Package] = (),
        psys: Profile | None = None,
        chips: Sequence[Chip] = (),
        cards: Sequence[Card] = (),
        board: str = "",
        driver_version: str = "550.54.15",
        powercap_tick_s: float = 0.001,
    ) -> None:
        zones = lay_out(packages, psys)
        moving = len(zones) + sum(len(chip.channels) for chip in chips)
        if len(gpus) > MAX_GPUS or moving > MAX_ZONES:
            raise ValueError(f"at most {MAX_GPUS} GPUs, and {MAX_ZONES} RAPL zones and channels of hwmon")
        self._binaries = build.built()
        self._daemon: subprocess.Popen[bytes] | None = None
        with ExitStack() as stack:
            place = TMPFS if os.access(TMPFS, os.W_OK) else folder
            self.folder = Path(tempfile.mkdtemp(prefix="carbonmon-simulator-", dir=place))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.folder.chmod(0o755)
            self._file = ControlFile(self.folder / "control")
            stack.callback(self._file.close)
            control = self._control = self._file.control
            self.clock = MachineClock(control)
            for epoch in control.epoch:
                epoch.loaded_s = self.clock.epoch_s - 3600
                epoch.order[:] = list(range(MAX_GPUS))
            control.driver_version = driver_version.encode()
            control.nvml_version = f"12.{driver_version}".encode()
            self.gpus = [LiveGpu(i, gpu, control.gpu[i], self.clock) for i, gpu in enumerate(gpus)]
            control.powercap_tick_s = powercap_tick_s

            self.sysfs = self.folder / "sys"
            (self.sysfs / "fs/cgroup").mkdir(parents=True)
            self.cpus = Cpus(self.sysfs, packages or [Package()])
            write_tree(self.sysfs, zones)
            self.zones: dict[str, LiveZone] = {}
            for index, zone in enumerate(zones):
                original = list(self.zones.values())[zone.mirror_of] if zone.mirror_of >= 0 else None
                record = control.zone[index]
                self.zones[zone.key] = LiveZone(zone, self.sysfs, record, self.clock, self.settle, original)
            self.hwmon = Hwmon(self.sysfs, chips)
            self.channels: dict[str, LiveZone] = {}
            for index, zone in enumerate(self.hwmon.zones(), start=len(zones)):
                record = control.zone[index]
                self.channels[zone.key] = LiveZone(zone, self.sysfs, record, self.clock, self.settle, None)
            if board:
                model = self.sysfs / "firmware/devicetree/base/model"
                model.parent.mkdir(parents=True)
                model.write_text(f"{board}\0")
            self.cards = put(cards, self.sysfs, control, self.clock)
            control.gpu_count, control.zone_count = len(gpus), moving

            self._file.publish()
            if moving:
                command = [self._binaries / build.DAEMON, self._file.path, self.sysfs, f"{os.getpid()}"]
                self._daemon = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL)
                stack.callback(self._stop_daemon)
                self.settle()
                open_to_all(self.channels)
            self._stack = stack.pop_all()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the machine: the library answers UNINITIALIZED, the files are gone."""
        self._stack.close()

    def _stop_daemon(self) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait()
            self._daemon = None

    def hurry(self) -> None:
        """Let the tree be written at once also where all CPUs are busy, as hardware does; root may."""
        if self._daemon is not None:
            with suppress(PermissionError):
                os.sched_setscheduler(self._daemon.pid, os.SCHED_FIFO, os.sched_param(1))

    def settle(self) -> None:
        """Wait until the tree shows the present time and state."""
        passes = self._control.powercap_passes
        deadline_s = time.monotonic() + PATIENCE_S
        while self._daemon is not None and self._control.powercap_passes < passes + 2:
            if self._daemon.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError("powercapd does not write any more")
            time.sleep(0.0002)

    def now_s(self) -> float:
        """The machine's time."""
        return self.clock.now_s()

    def wall_s(self, at_s: float | None = None) -> float:
        """Unix time of a machine time (now)."""
        return self.clock.to_wall(self.now_s() if at_s is None else at_s)

    def freeze(self) -> None:
        """Hold the machine's time still; from here on only `advance` moves it."""
        self.clock.hold()
        self.settle()

    def advance(self, seconds: float) -> float:
        """Move the machine's time on, freezing it if it ran; returns the new time."""
        self.clock.hold()
        self.clock.set(self.now_s() + seconds)
        self.settle()
        return self.now_s()

    @property
    def environ(self) -> dict[str, str]:
        """What a child needs in its environment, beside what it has, to find the simulated NVML."""
        path = [str(self._binaries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        found = {"LD_LIBRARY_PATH": ":".join(path), "CARBONMON_SIM_CONTROL": str(self._file.path)}
        if any(card.spec.kind == GAUDI for card in self.cards):
            found |= hlml_environ(self._binaries / build.HLML)
        return found

    def wrap(self, command: Sequence[str], uid: int | None = None) -> list[str]:
        """The command under a private mount namespace where `sysfs` is /sys; see `namespace.can_wrap`."""
        return namespace.wrapped(self.sysfs, command, uid)

    def popen(
        self,
        command: Sequence[str],
        *,
        wrap: bool = False,
        uid: int | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start a command on this machine; `env` adds to the environment."""
        command = self.wrap(command, uid) if wrap else list(command)
        environ = {**os.environ, **self.environ, **(env or {})}
        return subprocess.Popen(command, env=environ, stdout=stdout, stderr=stderr, text=True)

    def preload(self) -> ctypes.CDLL:
        """Make this process's NVML the simulated one, with this machine behind it.

        dlopen("libnvidia-ml.so.1") finds a library already loaded under that soname, so pynvml needs no
        LD_LIBRARY_PATH. One machine at a time: the last one preloaded counts, after nvmlInit.
        """
        library = ctypes.CDLL(str(self._binaries / build.LIBRARY))
        library.sim_attach(str(self._file.path).encode())
        if self.cards:
            for name in (build.HLML, build.LEVEL_ZERO):
                ctypes.CDLL(str(self._binaries / name)).sim_attach(str(self._file.path).encode())
            lead_pyhlml_to(self._binaries / build.HLML)
        return library

    def reload_driver(self, order: Sequence[int] | None = None) -> None:
        """Load the GPU driver anew: counters restart at 0, old handles and initialisations are void.

        `order[i]` is the place in `gpus` of the GPU that has NVML index i from now on.
        """
        control = self._control
        old, new = (control.epoch[(control.driver_generation + step) & 1] for step in (0, 1))
        new.loaded_s = self.now_s()
        if order is not None and sorted(order) != list(range(len(self.gpus))):
            raise ValueError("the order must name each GPU once")
        for index in range(len(self.gpus)):
            new.order[index] = old.order[index] if order is None else order[index]
        control.driver_generation += 1

    def fault(self, *, init_error: int | None = None, missing_functions: Iterable[str] | None = None) -> None:
        """Faults of the driver: what nvmlInit returns, and functions that answer FUNCTION_NOT_FOUND."""
        if init_error is not None:
            self._control.init_error = init_error
        if missing_functions is not None:
            bits = (1 << FUNCTIONS.index(name) for name in set(missing_functions))
            self._control.missing_functions = sum(bits)

    def card_fault(self, *, hlml_error: int | None = None, sysman_error: int | None = None) -> None:
        """Faults of the libraries of cards: what HLML answers to everything, what zesInit answers."""
        if hlml_error is not None:
            self._control.hlml_error = hlml_error
        if sysman_error is not None:
            self._control.sysman_error = sysman_error

    def clear(self) -> None:
        """End the drivers' faults."""
        self.fault(init_error=0, missing_functions=())
        self.card_fault(hlml_error=0, sysman_error=0)

    def calls(self, function: str, gpu: int | None = None) -> int:
        """How often an NVML function was called by anyone; `gpu` (place in `gpus`): on that GPU only."""
        column = FUNCTIONS.index(function)
        rows = self._control.calls if gpu is None else [self._control.calls[gpu]]
        return sum(row[column] for row in rows)

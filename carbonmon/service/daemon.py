"""A monitor as a service: it listens for runs until it is told to stop, or until its only run has ended."""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from carbonmon.client import rendezvous
from carbonmon.client.launcher import safe_id
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.ports import Clock
from carbonmon.monitor.clock import SystemClock
from carbonmon.monitor.node import Monitor, RunPlan
from carbonmon.runs.holder import boot_id
from carbonmon.runs.node_checkpoint import NodeCheckpoint, read_devices
from carbonmon.service import wiring
from carbonmon.service.open_grid import open_overheads, open_provider
from carbonmon.service.registry import Registry
from carbonmon.service.resumption import recover, unfinished
from carbonmon.service.run_retention import RunRetention
from carbonmon.service.socket import listener
from carbonmon.service.socket.about import is_service
from carbonmon.service.socket.operations import Operations
from carbonmon.service.socket.server import ControlServer

log = logging.getLogger(__name__)

ENDS = frozenset((signal.SIGTERM, signal.SIGINT))
TIDY_S = 1.0
"""How often runs are looked at whose processes may be gone."""

AGAIN_S = 5.0
"""How often a port that another process holds is tried again."""

LIVE_FIELDS = frozenset(
    (
        *("region", "intensity_g_per_kwh", "intensity_file", "grid", "pue", "wue", "price_per_kwh"),
        *("price_file", "currency", "idle", "retain_s", "quiet", "user_names", "keep_runs_bytes"),
    )
)
"""Choices that a new config changes while the daemon runs; the others need a restart."""


def serve(
    config: Config,
    *,
    once: bool,
    ready: Callable[[Monitor, Path], object],
    reload: Callable[[], Config] | None = None,
    clock: Clock | None = None,
) -> None:
    """Meter the node and serve its runs until SIGTERM or SIGINT, or with `once` until its run has ended.

    A process that began that run may begin another one for a while.

    `ready(monitor, socket)` is called when runs can come; `reload` makes the config anew at SIGHUP. Raises
    `ConfigError` for mistakes in the options.
    """
    clock = clock or SystemClock()
    with ExitStack() as closing:
        signal.pthread_sigmask(signal.SIG_BLOCK, {*ENDS, signal.SIGHUP})
        path = config.socket or default_socket()
        listener.check(path)
        served_s = config.retain_s if once else 0.0
        together = None if once else NodeCheckpoint(_together_path(config), boot_id(config.procfs))
        monitor = wiring.build(
            config,
            {},
            clock,
            closing,
            watching=True,
            served_s=served_s,
            keeps_address=not once,
            together=together,
        )
        registry = Registry(monitor, config, os.geteuid(), creates=True, once=once)
        # Root's daemon is for everybody on the node: who may do what is decided for each run by its owner.
        for_all = os.geteuid() == 0 and not once
        server = ControlServer(path, Operations(registry), 0o666 if for_all else 0o600, everyone=for_all)
        left = [] if once or monitor.workload is None else _left_runs(config, monitor, registry)
        monitor.resume(left)
        if not left and not once:
            _go_on_with_devices(monitor, _together_path(config))
        if not monitor.sampling.start():
            log.warning("the sensors do not answer; runs are taken all the same")
        # A service with a mistake does not begin; a monitor of one run (`once`) warns, and its job starts.
        monitor.show(
            closing.callback, refuses_mistakes=not once
        )  # now the totals are those of before: 0 in between would be a reset
        serves = once or _serves(monitor)
        if not serves and is_service():  # it starts us again
            raise ConfigError("/metrics cannot be served where it was asked for: see above")
        monitor.recorder.start()
        server.start()
        closing.callback(server.close)
        if serves:
            ready(monitor, path)
        if left:
            log.warning("resumed: %s", ", ".join(plan.info.id for plan in left))
        again_s = clock.now_s() + AGAIN_S
        retention = RunRetention(config.output, clock, lambda: tuple(monitor.sampler.runs.folders))
        while True:
            received = signal.sigtimedwait({*ENDS, signal.SIGHUP}, TIDY_S)
            if received is not None and received.si_signo == signal.SIGHUP:
                if reload is not None:
                    config = _reloaded(config, reload, monitor, registry)
                continue
            if received is not None and received.si_signo in ENDS:
                break
            # What a wait gives that was stopped and continued (SIGSTOP, a debugger) may be no signal at all.
            registry.tidy()
            if not once:
                retention.look(config.keep_runs_bytes)
            if not serves and clock.now_s() >= again_s:
                monitor.show_again()
                serves, again_s = _serves(monitor), clock.now_s() + AGAIN_S
                if serves:
                    ready(monitor, path)
            if registry.retire():
                break
        server.close()  # who comes now comes too late: it finds no monitor, or the next one
        if once:
            monitor.finish(None, None)
        else:
            going_on = [entry.run_id for entry in registry.entries if not entry.ending]
            if going_on:
                log.warning(
                    "%d runs still active; a daemon with the same --output will resume them", len(going_on)
                )
            monitor.leave()
    with suppress(OSError):
        if once and not log_path(path).stat().st_size:
            log_path(path).unlink()


def _serves(monitor: Monitor) -> bool:
    """Whether /metrics is served, where it was asked for."""
    return all(exporter.is_started for exporter in monitor.exporters if exporter.name == "prometheus")


def _left_runs(config: Config, monitor: Monitor, registry: Registry) -> list[RunPlan]:
    """The runs that a daemon before this one left, with their folders taken."""
    assert monitor.workload is not None
    taken = []
    left = unfinished(config.output, monitor.boot_id, monitor.workload, _together_path(config))
    recover(left.over)
    for plan in left.living:
        try:
            monitor.plan(plan)
        except ConfigError as error:
            log.warning("a run of the previous daemon was not resumed: %s", error)
            continue
        registry.adopt(plan)
        taken.append(plan)
    return taken


def _go_on_with_devices(monitor: Monitor, path: Path) -> None:
    """No run lives, but the totals of the devices go on: else they would step back where somebody scrapes."""
    try:
        before = read_devices(path, monitor.devices.values())
    except ConfigError as error:
        log.warning("the devices' totals begin anew: %s", error)
        return
    if before is not None:
        monitor.resume_devices(before)


def _together_path(config: Config) -> Path:
    """Where this host keeps the checkpoints of all runs; other hosts may have the same output."""
    return config.output / f".checkpoints.{safe_id(config.host or platform.node())}.json"


def default_socket() -> Path:
    """Where the node's daemon listens: root's for everybody, a user's own in the user's runtime folder.

    Raises `ConfigError` if no folder can hold it.
    """
    return rendezvous.NODE_SOCKET if os.geteuid() == 0 else rendezvous.daemon_socket()


def _reloaded(config: Config, reload: Callable[[], Config], monitor: Monitor, registry: Registry) -> Config:
    """Take what a new config changes; a bad one is said and changes nothing."""
    try:
        new = reload()
        overheads = open_overheads(new)
        provider = open_provider(new)
    except ConfigError as error:
        log.error("the new config is not taken, the old one stays in force: %s", error)
        return config
    changed = [name for name in Config._fields if getattr(config, name) != getattr(new, name)]
    waiting = [name for name in changed if name not in LIVE_FIELDS]
    if waiting:
        log.warning("a restart is needed for: %s", ", ".join(waiting))
    taken = ", ".join(sorted(set(changed) - set(waiting))) or "no change"

    def take() -> None:
        monitor.sampler.rates.replace(provider, overheads, monitor.clock.wall_s()).close()
        monitor.sampler.runs.retain_s = new.retain_s
        registry.config = registry.config._replace(**{name: getattr(new, name) for name in LIVE_FIELDS})
        log.warning("the config was read again: %s", taken)

    # A sample first: what was drawn until now is charged as it was.
    monitor.requests.post(take, "edge")
    return new


def log_path(socket: Path) -> Path:
    """Where a daemon in the background writes its log: beside its socket."""
    return Path(f"{socket}.log")


def detach(socket: Path) -> Callable[[], None]:
    """Go on in the background; the process that was started ends with 0 when the returned function is called.

    It ends with the monitor's exit code if that ends before. What the monitor has to say until then goes
    where it always went, later to a file beside the socket.
    """
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # closed by whoever started us: nothing of ours takes these numbers, which are replaced below
    os.close(null)
    reader, writer = os.pipe()
    if monitor := os.fork():
        os.close(writer)
        if os.read(reader, 1) == b"1":
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(monitor, 0)[1])
        os._exit(code if code > 0 else 1)  # nothing of ours is open yet, and the child owns what is buffered
    os.close(reader)
    if os.getsid(0) != os.getppid():  # else whoever started us gave us a session already
        os.setsid()

    def tell() -> None:
        if sys.stderr is not None:
            sys.stderr.flush()
        null = os.open(os.devnull, os.O_RDWR)
        said = null
        with suppress(OSError):
            said = os.open(log_path(socket), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        for target, source in ((0, null), (1, null), (2, said)):
            os.dup2(source, target)
        with suppress(OSError):
            os.write(writer, b"1")
        os.close(writer)

    return tell

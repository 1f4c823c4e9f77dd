"""A monitor in the test's own process, and every way into a run that there is with it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner

from carbonmon.cli import log, options, register
from carbonmon.cli import run as run_command
from carbonmon.client import choices, join_run, rendezvous
from carbonmon.client.connection import MonitorConnection
from carbonmon.client.launcher import read_launch, run_key
from carbonmon.client.protocol import RUN_VARIABLE, SOCKET_VARIABLE
from carbonmon.core.config import Config
from carbonmon.core.ways import OPTIONS
from carbonmon.monitor.clock import SystemClock
from carbonmon.service import settings, wiring
from carbonmon.service.registry import Entry, Registry
from carbonmon.service.socket.operations import Operations
from carbonmon.service.socket.server import ControlServer

COMMAND = ("train", "--secret")
ANSWER_S = 20.0
RANK = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}

_numbers = itertools.count()


class Entered(NamedTuple):
    """What came of a way into a run: what was said, and where the options have arrived.

    `run` is the texts of the run's own options where another monitor has it, else None; `alone` are those of
    the monitor of its own; `is_copied`: the summary will be copied to the output that was chosen.
    """

    said: str
    run: Mapping[str, str] | None = None
    alone: Mapping[str, str | None] | None = None
    is_copied: bool = False


class Node:
    """A monitor whose socket is where a daemon's is; each `way` begins anew and leaves nothing."""

    def __init__(self, folder: Path, closing: ExitStack, heard: Callable[[], str]) -> None:
        self.folder, self.heard = folder, heard
        self.config = Config(
            region="DE",
            interval_s=0.05,
            checkpoint_s=0.1,
            sensors=("tdp",),
            exporters=("summary",),
            gpu_model="A100 SXM4 80GB:2",
        )
        self.monitor = wiring.build(self.config, {}, SystemClock(), closing, watching=True)
        assert self.monitor.sampling.start()
        self.monitor.recorder.start()
        closing.callback(self.monitor.leave)
        for name in ("empty", "there", "there/carbonmon"):
            (folder / name).mkdir(mode=0o700)
        self.socket = folder / "there" / "carbonmon" / "daemon.sock"
        self.registry = self._serve(self.socket, closing, once=False)

    def _config(self) -> Config:
        """With an output of its own, so that ids are free again."""
        return self.config._replace(output=self.folder / f"runs-{next(_numbers)}")

    def _serve(self, path: Path, closing: ExitStack, once: bool) -> Registry:
        registry = Registry(self.monitor, self._config(), os.geteuid(), creates=True, once=once)
        server = ControlServer(path, Operations(registry))
        server.start()
        closing.callback(server.close)
        return registry

    @contextmanager
    def way(
        self, way: str, environ: Mapping[str, str] = {}, toml: str = "", begun: Mapping[str, Any] = {}
    ) -> Iterator[Way]:
        """Be where a way begins, with more variables and a file of options.

        `begun` is what else a run began with that is there already.
        """
        with pytest.MonkeyPatch.context() as patch, ExitStack() as closing:
            there = way in ("daemon", "track_daemon")
            patch.setenv("XDG_RUNTIME_DIR", str(self.folder / ("there" if there else "empty")))
            for name, value in environ.items():
                patch.setenv(name, value)
            (self.folder / "carbonmon.toml").write_text(toml)
            registry = self.registry
            registry.config = self._config()
            if way in ("nested", "socket", "track_inside", "register"):
                patch.setenv(SOCKET_VARIABLE, str(self.socket))
            if way in ("nested", "track_inside"):
                patch.setenv(RUN_VARIABLE, "outer")
                _begin(self.socket, closing, {"run_id": "outer", "name": "outer", **begun})
            if way == "rank":
                for name, value in {**RANK, "TORCHELASTIC_RUN_ID": f"{next(_numbers)}"}.items():
                    patch.setenv(name, value)
                run_id = read_launch(os.environ).run_id
                path = rendezvous.run_socket(run_id or run_key(os.environ))
                registry = self._serve(path, closing, once=True)
                _begin(path, closing, {"run_id": run_id, "name": "first", "local_size": 2})
            begun = Way(way, registry, self.heard)
            if way in ("track", "track_daemon"):

                def start(path: Path, _: Sequence[str], environ: Mapping[str, str], timeout_s: float) -> None:
                    begun.started_with = environ
                    begun.registry = self._serve(path, closing, once=True)

                patch.setattr(join_run, "start_monitor", start)
            self.heard()
            yield begun


class Way:
    """One way into a run: `enter` comes in, leaves again, and says what came of it."""

    def __init__(self, way: str, registry: Registry, heard: Callable[[], str]) -> None:
        self.way, self.registry, self.heard = way, registry, heard
        self.started_with: Mapping[str, str] | None = None

    def enter(self, words: Sequence[str] = (), **parameters: Any) -> Entered:
        """`words` are those of a command, `parameters` those of `track`."""
        choices._told.clear()
        if self.way.startswith("track"):
            log.set_up_log("warning", "text")
            self.heard()
            joined = join_run.join_run(join_run.RunOptions(**parameters), os.environ)
            return self._entered(joined.connection, joined.run_id)
        if self.way == "register":
            done = CliRunner().invoke(register.command, [*words, "--pid", str(os.getpid())])
            assert done.exit_code == 0, done.output
            entry = self._entry(done.stdout.strip())
            self.registry.end(entry)
            return Entered(done.stderr, _texts(entry))
        with run_command.command.make_context("run", [*words, "--", *COMMAND]) as ctx:
            config = config_in(ctx)
            part = run_command.take_part(ctx, config, COMMAND)
            if part is None:
                return Entered(self.heard(), alone=settings.texts(config))
            return self._entered(part.connection, part.run_id, part.is_copied and part.is_awaited)

    def _entered(self, joined: MonitorConnection, run_id: str | None, is_copied: bool = False) -> Entered:
        entry = self._entry(run_id)
        joined.request({"op": "leave"}, ANSWER_S)
        joined.close()
        alone = None
        if self.started_with is not None:
            environ = self.started_with
            alone = {name: environ.get(option.variable) for name, option in OPTIONS.items()}
        return Entered(self.heard(), _texts(entry), alone, is_copied)

    def _entry(self, run_id: str | None) -> Entry:
        assert run_id is not None
        entry = self.registry.find(run_id)
        assert entry is not None
        return entry


def config_in(ctx: click.Context) -> Config:
    """What `carbonmon run` makes of its words."""
    return options.to_config({name: value for name, value in ctx.params.items() if name != "job"})


def _begin(path: Path, closing: ExitStack, message: dict[str, Any]) -> None:
    """The run of another process, which stays until its way ends."""
    other = MonitorConnection(path, rendezvous.connect(path, ANSWER_S), {})
    closing.callback(other.close)
    assert other.request({"op": "join", **message}, ANSWER_S)["begun"]
    closing.callback(other.request, {"op": "leave"}, ANSWER_S)


def _texts(entry: Entry) -> dict[str, str]:
    """What a run has taken of its own options, as texts; its GPUs as a number of them."""
    info, gpus = entry.plan.info, entry.plan.roots.gpus
    return {
        "run-id": info.id,
        "name": info.name,
        "label": " ".join(f"{key}={value}" for key, value in info.labels),
        "idle": info.idle_policy,
        "gpus": f"{len(gpus)} of them" if gpus is not None else "all",
        "redact-command": "true" if info.command[1:] == ("…",) else "false",
    }

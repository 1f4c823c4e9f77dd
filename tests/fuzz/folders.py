"""Run folders for the fuzz tests, and the law that every outcome must obey."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from carbonmon.core.model import FallbackMeter, Meter, Rank, Snapshot
from carbonmon.core.node_meter import NodeCharge, NodeEnergy, NodeMeterState
from carbonmon.runs import layout
from tests.support import checkpoints, records
from tests.support.series import header_1, line_1, rows_of, series_text


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of one example."""
    with tempfile.TemporaryDirectory(prefix="carbonmon-fuzz-") as folder:
        yield Path(folder)


def a_snapshot(gpus: int = 1) -> Snapshot:
    """A small node in the middle of a run, as it comes back from its files."""
    node = records.node(
        gpus,
        1,
        1,
        records.run_info(
            labels=(("team", "vision"),), command=("träin", "\udce9"), idle_policy="proportional"
        ),
    )
    (run,) = node.runs
    return node._replace(
        runs=(
            run._replace(
                power_w=tuple((device_id, None) for device_id, _ in run.power_w),
                shares=tuple((row.device_id, "by CPU time") for row in run.node),
                processes=None,
                phase="evaluate",
                ranks=(Rank(0, 0, 2), Rank(None, None, None)),
                start_s=12.5,
                node_charges=(NodeCharge("cray", 3e6, 83.0, 80.0, 90.0),),
                node_meters=(NodeEnergy("cray", 5e6, 1e3, 4e6, 3600.0, 2.5, 1),),
            ),
        ),
        node_meters=(NodeMeterState(NodeEnergy("cray", 7e6, 1e3, 5e6, 5000.0, 2.5, 1)),),
        sensors=(),
        exporter_errors=(),
        meters=tuple(
            (state.device.id, Meter(50.5, 123_456_789, 50.5, FallbackMeter(50.5, 250.0)))
            for state in node.devices
        ),
        continued=True,
    )


def write(folder: Path, snapshot: Snapshot) -> None:
    """The files of a run as its monitor leaves them."""
    (run,) = snapshot.runs
    devices = [state.device for state in snapshot.devices]
    (folder / layout.RUN_FILE).write_bytes(layout.run_text(run.info, devices).encode())
    checkpoints.write(folder, layout.checkpoint_text(snapshot, run, "a boot"))
    (folder / layout.SERIES_FILE).write_bytes(series_bytes(snapshot))


def series_bytes(snapshot: Snapshot, moments: int = 3) -> bytes:
    """One monitor's part of a series: at each moment the same again."""
    (run,) = snapshot.runs
    rows = [row for at_s in range(moments) for row in rows_of(snapshot._replace(at_s=float(at_s)), run)]
    return "".join(map(series_text, rows)).encode()


def series_1_bytes(snapshot: Snapshot, moments: int = 3) -> bytes:
    """One monitor's part of a series of version 1: totals, to which nothing is added."""
    (run,) = snapshot.runs
    devices = [state.device for state in snapshot.devices]
    number = {device.id: place for place, device in enumerate(devices)}
    lines = [line_1(snapshot._replace(at_s=float(at_s)), run, number) for at_s in range(moments)]
    return "".join([header_1(devices), *lines]).encode()


def is_possible(value: Any) -> bool:
    """Whether every number in a record is one that can be: at least 0 and finite."""
    if isinstance(value, (int, float)):
        return 0 <= value < math.inf
    if isinstance(value, dict):
        return all(is_possible(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(is_possible(item) for item in value)
    if hasattr(value, "__slots__"):
        return all(is_possible(getattr(value, name)) for name in value.__slots__)
    return value is None or isinstance(value, str)


def document(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_bytes())


def invoke(command: click.Command, *arguments: object) -> Result:
    """A command in this process; it ends in 0 or 2 and by nothing but its own will."""
    loggers = [logging.getLogger(name) for name in ("carbonmon", "carbonmon_exporters")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    try:
        done = CliRunner().invoke(command, [str(argument) for argument in arguments])
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 2), done.output
    assert "Traceback" not in done.output
    return done

"""Opens the node meters of a config. One that cannot serve is data: it is listed with its reason and mend."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack

from carbonmon.core.config import DEFAULT_NODE_METERS, Config
from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.model import SensorState
from carbonmon.core.ports import Clock, NodeMeterSettings
from carbonmon.core.records import NamedTuple
from carbonmon.monitor.node_meter_reader import LATE_S, NodeMeterReader
from carbonmon.service import plugins

log = logging.getLogger(__name__)


class OpenedNodeMeters(NamedTuple):
    """The meters that serve, and those that do not.

    `missed` are those of the latter that the user has asked for: that a machine lacks the usual ones is no
    news.
    """

    readers: tuple[NodeMeterReader, ...]
    unused: tuple[SensorState, ...]
    missed: tuple[SensorState, ...]


def open_node_meters(config: Config, closing: ExitStack) -> OpenedNodeMeters:
    """Open the node meters of the config, each with a name of its own; waits for none of them.

    Raises `ConfigError` for a mistake in the options.
    """
    readers: list[NodeMeterReader] = []
    unused: list[SensorState] = []
    for entry in config.node_meters:
        kind, _, argument = entry.partition(":")
        settings = NodeMeterSettings(
            config.sysfs, argument, config.redfish_password_file, config.redfish_ca_file
        )
        open_meter = plugins.load("carbonmon.node_meters", kind)
        same = sum(reader.meter.name == kind for reader in readers)
        try:
            reader = NodeMeterReader(open_meter(settings), kind if not same else f"{kind}-{same + 1}")
        except ConfigError:
            raise
        except SensorUnavailable as error:
            unused.append(SensorState(f"node meter {kind}", "not used", error.reason, error.remedy))
        except Exception as error:  # a meter's own bug at opening costs this meter, never the job
            log.warning("node meter %s cannot be opened", kind, exc_info=True)
            unused.append(SensorState(f"node meter {kind}", "not used", f"{type(error).__name__}: {error}"))
        else:
            closing.callback(reader.close)
            readers.append(reader)
    usual = config.node_meters == DEFAULT_NODE_METERS
    return OpenedNodeMeters(tuple(readers), tuple(unused), () if usual else tuple(unused))


def asked(readers: Sequence[NodeMeterReader], clock: Clock) -> list[SensorState]:
    """What each meter is and says now, for people: waits until all have answered, or hang."""
    waiting = list(readers)
    said: dict[str, str] = {}
    deadline_s = clock.now_s() + LATE_S
    while waiting and clock.now_s() < deadline_s:
        for reader in list(waiting):
            newest = reader.newest(clock)
            if newest is not None and newest[0].power_w is not None:
                said[reader.name] = f", {newest[0].power_w:.0f} W now"
            if reader.has_answered:
                waiting.remove(reader)
        if waiting:
            time.sleep(0.02)
    states = [reader.state() for reader in readers]
    return [
        state._replace(reason=state.reason + said.get(reader.name, ""))
        if state.up
        else state._replace(use="not used", reason=state.reason if reader.has_answered else "no answer yet")
        for reader, state in zip(readers, states, strict=True)
    ]

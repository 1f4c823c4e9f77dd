"""Opens the sensors of a config in the ladder's order, merges what they say of the same devices, and
counts each part of the machine once (`core/scope.py`).

A source that cannot serve is data: it is listed with its reason and its remedy, and the next one fills
the gap. A driver that hangs is waited for only a little.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial

from carbonmon.core import scope
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.model import MEASURED_METHODS, METHODS, Device, SensorState
from carbonmon.core.plausibility import believed_range_uj, bound_w
from carbonmon.core.ports import Sensor, SensorSettings
from carbonmon.core.records import NamedTuple
from carbonmon.hardware import unmetered
from carbonmon.hardware.own_thread import OwnThread
from carbonmon.monitor.guard import GuardedSensor
from carbonmon.monitor.loop import ANSWER_TIMEOUT_S
from carbonmon.monitor.threaded_sensor import ThreadedSensor
from carbonmon.service import plugins

log = logging.getLogger(__name__)


class Sensors(NamedTuple):
    """The opened sensors, the devices that they meter together, and every source, in the user's order.

    `sources` says of each source, and of parts of one, whether it is used, why not and what mends it.
    `gpus_are_given`: a sensor has found which GPUs the job was given, and meters no others. `unavailable` are
    the names of those that could not be opened.
    """

    sensors: tuple[GuardedSensor, ...]
    devices: dict[str, Device]
    sources: tuple[SensorState, ...]
    gpus_are_given: bool = False
    unavailable: tuple[str, ...] = ()

    def unused(self) -> tuple[SensorState, ...]:
        """The sources that give nothing; what is used is read, and tells its own state."""
        return tuple(source for source in self.sources if source.use == "not used")


def open_sensors(config: Config, environ: Mapping[str, str], closing: ExitStack) -> Sensors:
    """Open the sensors of the config in their order; each knows what those before it serve.

    Raises `ConfigError` for a model that no table has, whether a sensor will need it or not, and for a GPU or
    a folder that is not there.
    """
    for option, folder, usual in (("--sysfs", config.sysfs, "/sys"), ("--procfs", config.procfs, "/proc")):
        if str(folder) != usual and not folder.is_dir():
            raise ConfigError(
                f"{option}: there is no folder {folder}; name where the host's {usual} is mounted"
            )
    settings = SensorSettings(
        sysfs=config.sysfs,
        procfs=config.procfs,
        environ=environ,
        gpus=config.gpus,
        gpu_model=config.gpu_model,
        gpu_tdp_w=config.gpu_tdp_w,
        cpu_model=config.cpu_model,
        cpu_tdp_w=config.cpu_tdp_w,
        dram_estimate=config.dram_estimate,
    )
    if settings.gpu_model is not None or settings.cpu_model is not None:
        from carbonmon.hardware.device_names import check_models  # most runs state no model

        check_models(settings)
    gpus_are_given = False
    opener = _Opener()
    closing.callback(opener.close)
    seen: set[str] = set()
    found: list[_Opened | SensorState] = []
    unavailable: list[str] = []
    devices: dict[str, Device] = {}
    for entry in config.sensors:
        name, _, argument = entry.partition(":")
        open_sensor: Callable[[SensorSettings], Sensor] = plugins.load("carbonmon.sensors", name)
        try:
            own_settings = settings._replace(argument=argument, known=dict(devices))
            sensor = opener.open(partial(open_sensor, own_settings))
            gpus_are_given |= bool(getattr(sensor, "gpus_are_given", False))  # a plug-in may not say
            seen |= set(getattr(sensor, "gpus_seen", ()))
            guarded = (ThreadedSensor if getattr(sensor, "may_hang", False) else GuardedSensor)(sensor)
            closing.callback(guarded.close)
            offered = tuple(sensor.devices())
            for device in offered:
                devices[device.id] = merge_devices(devices.get(device.id), device)
        except SensorUnavailable as error:
            found.append(SensorState(name, "not used", error.reason, error.remedy))
            unavailable.append(name)
            seen |= set(error.gpus_seen)
            if error.note:
                found.append(SensorState(f"{name} note", "not used", error.note))
        except ConfigError:
            raise
        except Exception as error:  # a source's own bug at opening is a step down the ladder, never an end
            log.warning("sensor %s cannot be opened", name, exc_info=True)
            found.append(SensorState(name, "not used", f"{type(error).__name__}: {error}"))
            unavailable.append(name)
        else:
            found.append(_Opened(guarded, tuple(device.id for device in offered)))
    opener.close()
    stated = _needless_estimates(devices)
    decision = scope.decide({name: each for name, each in devices.items() if name not in stated})
    reasons = stated | {each.device.id: each.reason for each in decision.left_out}
    used: list[GuardedSensor] = []
    sources: list[SensorState] = []
    for each in found:
        if isinstance(each, SensorState):
            sources.append(each)
            continue
        sources += _counted_sources(each, reasons)
        if not each.device_ids or not reasons.keys() >= set(each.device_ids):
            used.append(each.sensor)
    is_stated = config.gpu_model is not None
    sources += unmetered.sources(config.sysfs, decision.counted.values(), is_stated, seen)
    bounded = {device.id: _bounded(device) for device in decision.counted.values()}
    return Sensors(tuple(used), bounded, tuple(sources), gpus_are_given, tuple(unavailable))


def _needless_estimates(devices: Mapping[str, Device]) -> dict[str, str]:
    """Why GPUs that only the user stated (`gpu-0` …) are not counted, by id: where a sensor found any, they
    are no others, also where they were listed before."""
    stated = [name for name in devices if name.startswith("gpu-") and not devices[name].is_measured]
    found = [name for name, device in devices.items() if device.gpu_ids and name not in stated]
    if not found:
        return {}
    reason = f"stated by --gpu-model, but {found[0]} was found: it would be counted twice"
    return dict.fromkeys(stated, reason)


class _Opened(NamedTuple):
    """A sensor that serves, and the devices that it offers."""

    sensor: GuardedSensor
    device_ids: tuple[str, ...]


def _counted_sources(opened: _Opened, reasons: Mapping[str, str]) -> list[SensorState]:
    """What a sensor says of itself, without its devices that are not counted; `reasons` say why, by id."""
    sensor = opened.sensor
    ignored = [device_id for device_id in opened.device_ids if device_id in reasons]
    if not ignored:
        return list(sensor.sources)
    own = next((source for source in sensor.sources if source.name == sensor.name), None)
    others = [source for source in sensor.sources if source is not own]
    if len(ignored) == len(opened.device_ids):
        text = "; ".join(f"{device_id}: {reasons[device_id]}" for device_id in ignored)
        return [SensorState(sensor.name, "not used", text), *others]
    kept = [] if own is None else [text for device_id, text in own.parts if device_id not in reasons]
    reason = "; ".join(kept) or ("" if own is None else own.reason)
    sensor.ignore(frozenset(ignored), reason)
    left_out = [SensorState(f"{sensor.name} {each}", "not used", reasons[each]) for each in ignored]
    return [*([] if own is None else [own._replace(reason=reason)]), *left_out, *others]


def _bounded(device: Device) -> Device:
    """The device with a bound of what is plausible, where no sensor states one, and a range that is one."""
    most_w = device.max_power_w or bound_w(device.component, None, None)
    range_uj = believed_range_uj(device.counter_range_uj)
    if most_w == device.max_power_w and range_uj == device.counter_range_uj:
        return device
    return device._replace(max_power_w=most_w, counter_range_uj=range_uj)


def merge_devices(first: Device | None, second: Device) -> Device:
    """Two sensors' records of one device: the first wins, the second adds the methods below it.

    What is measured, how well and of what range is said by the one with the better meter, whatever the order.
    """
    if first is None:
        return second
    bounds_w = [each.max_power_w for each in (first, second) if each.max_power_w is not None]
    meter = second if _meter_rank(second) < _meter_rank(first) else first
    return first._replace(
        component=meter.component,
        name=second.name if first.name == first.id else first.name,
        methods=tuple(method for method in METHODS if method in first.methods + second.methods),
        counter_range_uj=meter.counter_range_uj,
        max_power_w=max(bounds_w, default=None),
        spec=first.spec or second.spec,
        measured_uncertainty=meter.measured_uncertainty,
        share_ratio=meter.share_ratio,
        share_note=meter.share_note,
        contains=meter.contains,
    )


def _meter_rank(device: Device) -> int:
    """The place of its best measuring method among all; the same for all devices that nothing measures."""
    return min(
        (METHODS.index(each) for each in device.methods if each in MEASURED_METHODS), default=len(METHODS)
    )


class _Opener:
    """Opens one sensor after the other in a thread beside this one: a broken driver may never answer."""

    def __init__(self) -> None:
        self._own = OwnThread("open", ANSWER_TIMEOUT_S)

    def open(self, call: Callable[[], Sensor]) -> Sensor:
        """What `call` returns or raises; `SensorUnavailable` if it takes too long."""
        returned: list[Sensor] = []
        raised: list[Exception] = []

        def answer() -> None:
            try:
                returned.append(call())
            except Exception as error:  # noqa: BLE001 (raised again below, in the caller's thread)
                raised.append(error)

        if not self._own.run(answer):
            self._own = OwnThread("open", ANSWER_TIMEOUT_S)  # the one that hangs is left behind
        if raised:
            raise raised[0]
        if not returned:
            raise SensorUnavailable(
                f"it did not answer within {ANSWER_TIMEOUT_S:.0f} s: a driver hangs", "sudo dmesg | tail"
            )
        return returned[0]

    def close(self) -> None:
        """End the thread."""
        self._own.close()

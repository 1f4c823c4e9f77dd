"""The parts of a job that is estimated: its hardware and hours, from options or from a TOML file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carbonmon.analysis.estimate.consistency import check_consistent
from carbonmon.analysis.estimate.inference import Inference, inference_of
from carbonmon.analysis.estimate.kinds import KINDS
from carbonmon.analysis.estimate.part_values import (
    intensity_at,
    key_text,
    number_at,
    power_at,
    ratio_at,
    scaled_at,
    water_intensity_at,
    watts_at,
)
from carbonmon.analysis.estimate.quantities import energy_j_of
from carbonmon.analysis.estimate.training import Training, is_training, training_of
from carbonmon.core.config import PUE_WORDS
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import MAIN_PHASE
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.device_counts import is_several, split_count, split_system

OPTIONS = (
    *("gpu", "gpu-hours", "gpu-utilization", "gpu-tdp", "gpu-idle", "cpu", "cpu-utilization", "cpu-tdp"),
    *("memory-gb", "hours", "energy", "power", "host-power", "idle-share", "attempts"),
    *("parameters", "tokens", "batch", "steps", "sequence", "layers", "width", "flops", "mfu"),
    *("precision", "flops-peak", "queries", "tokens-out", "cpu-cores", "kind"),
)
"""What says how much a part draws: the same words are options of the command line and keys of a table."""
PLACE_OPTIONS = ("market-intensity", "water-intensity")
"""Of a place too, and of no run: options of the command line for all parts, keys of a table for one."""
KEYS = (*OPTIONS, *PLACE_OPTIONS, "region", "intensity", "pue", "name")
"""The keys of a part of a TOML file. Without a place of its own, a part has that of the command line."""
MAX_COUNT = 1_000_000
MAX_HOURS = 876_600.0
"""A century."""
MAX_DEVICE_HOURS = MAX_HOURS * MAX_COUNT
MAX_MEMORY_GB = 1e9

_COUNT = re.compile(r"[1-9][0-9]{0,6}")
_NUMBER = re.compile(r"[-+]?[0-9][0-9.,_e+-]*")


class Counted(NamedTuple):
    """A model as the user wrote it, and how many devices of it."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Part:
    """Hardware that works for `hours`; utilisations are ratios from 0 to 1, None where not given.

    `gpu_tdp_w` and `cpu_tdp_w` are the user's own figures, in W for one device, instead of the tables';
    `gpu_idle_w` is what one idle GPU draws. `where` is the part's position in a file, "" for that of the
    command line. One of `hours`, `gpu_hours`, `training` and `energy_j` is there, or `use` says itself what
    it draws. `power_w` is that of all the hardware together, `host_power_w` that of all hosts without their
    GPUs. `idle_share` of the time the hardware is idle. All of it happens `attempts` times. `region`,
    `intensity` and `pue` are the part's own place, None for that of the job; so are `market_intensity`
    (g/kWh) and `water_intensity` (litres of a kWh's generation). `use` is what the part serves, `cpu_cores`
    are those that it has of its CPU, None for all, and `kind` is one of `KINDS`.
    """

    name: str
    hours: float | None
    gpus: tuple[Counted, ...] = ()
    cpus: tuple[Counted, ...] = ()
    gpu_utilization: float | None = None
    cpu_utilization: float | None = None
    memory_gb: float | None = None
    gpu_tdp_w: float | None = None
    cpu_tdp_w: float | None = None
    where: str = ""
    gpu_hours: float | None = None
    energy_j: float | None = None
    power_w: float | None = None
    training: Training | None = None
    host_power_w: float | None = None
    idle_share: float | None = None
    gpu_idle_w: float | None = None
    attempts: float = 1.0
    region: str | None = None
    intensity: float | None = None
    pue: float | str | None = None
    use: Inference | None = None
    cpu_cores: float | None = None
    kind: str | None = None
    market_intensity: float | None = None
    water_intensity: float | None = None

    @property
    def use_in_all(self) -> Inference | None:
        """The use with the queries of all attempts."""
        return None if self.use is None else self.use._replace(queries=self.use.queries * self.attempts)

    @property
    def has_hours(self) -> bool:
        """Whether the time in which the hardware works is known, or follows from something."""
        return bool(self.hours) or self.gpu_hours is not None or self.training is not None

    def key(self, word: str) -> str:
        """A key of the part for messages: `--hours`, or the position in the file and the key."""
        return key_text(self.where, word)


def part_of(values: Mapping[str, Any], name: str = MAIN_PHASE, where: str = "") -> Part:
    """A part from its keys (`KEYS`), their values texts or numbers; raises ConfigError that names the key."""
    check_consistent(values, lambda word: key_text(where, word))
    hours = number_at(values, "hours", where, "a time in hours", 0.0, MAX_HOURS)
    device_hours = scaled_at(
        values, "gpu-hours", where, "GPU-hours", 1e-6, MAX_DEVICE_HOURS, "184320 or 1.3M"
    )
    energy_j = (
        None if values.get("energy") is None else energy_j_of(values["energy"], key_text(where, "energy"))
    )
    training = training_of(values, where)
    use = inference_of(values, where)
    has_work = training is not None or (use is not None and use.is_work)
    if not hours and device_hours is None and energy_j is None and not has_work:
        raise ConfigError(
            f"{key_text(where, 'hours')}: give for how many hours the hardware works: a number above 0; or "
            "gpu-hours, an energy, the parameters and tokens of a training, or the parameters, queries and "
            "tokens-out of an inference"
        )
    gpus = _counted(values, "gpu", where)
    if device_hours is not None or training is not None:
        _check_split(values, gpus, where)
    return Part(
        name,
        hours,
        gpus,
        _counted(values, "cpu", where),
        ratio_at(values, "gpu-utilization", where, "a utilisation"),
        ratio_at(values, "cpu-utilization", where, "a utilisation"),
        number_at(values, "memory-gb", where, "an amount of memory in GB", 0.001, MAX_MEMORY_GB),
        watts_at(values, "gpu-tdp", where),
        watts_at(values, "cpu-tdp", where),
        where,
        device_hours,
        energy_j,
        power_at(values, "power", where),
        training,
        power_at(values, "host-power", where),
        ratio_at(values, "idle-share", where, "a share of the time"),
        watts_at(values, "gpu-idle", where),
        number_at(values, "attempts", where, "a number of attempts", 1.0, 1e6) or 1.0,
        _region(values, where),
        intensity_at(values, where),
        _pue(values, where),
        use,
        scaled_at(values, "cpu-cores", where, "a number of cores", 0.001, 1e7, "16"),
        _kind(values, where),
        intensity_at(values, where, "market-intensity"),
        water_intensity_at(values, where),
    )


def _kind(values: Mapping[str, Any], where: str) -> str | None:
    kind = values.get("kind")
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"{key_text(where, 'kind')}: {kind!r:.40} is none of {', '.join(KINDS)}")
    return kind


def split_parts(values: Mapping[str, Any]) -> tuple[Part, ...]:
    """The part of the command line; two where it states a training and the use of what it trained."""
    if not is_training(values) or values.get("queries") is None:
        return (part_of(values),)
    takes_batch = values.get("steps") is None
    for_use = ("parameters", "queries", "tokens-out", *(("batch",) if takes_batch else ()), *PLACE_OPTIONS)
    not_for_training = ("queries", "tokens-out", *(("batch",) if takes_batch else ()))
    training = {key: value for key, value in values.items() if key not in not_for_training}
    use = {key: values.get(key) for key in for_use}
    if use["parameters"] is None or use["tokens-out"] is None:
        raise ConfigError(
            f"--queries {values['queries']} beside a training needs parameters and tokens-out: the hardware "
            "given is that of the training; or give the inference as a part of a file"
        )
    return part_of(training, "training"), part_of(use, "inference")


def _region(values: Mapping[str, Any], where: str) -> str | None:
    region = values.get("region")
    if region is not None and not isinstance(region, str):
        raise ConfigError(f"{key_text(where, 'region')} must be a text: FR, US-CA or aws:us-east-1")
    return region


def _pue(values: Mapping[str, Any], where: str) -> float | str | None:
    if isinstance(values.get("pue"), str) and values["pue"] in PUE_WORDS:
        return str(values["pue"])
    return number_at(values, "pue", where, f"a PUE (a ratio, or {', '.join(PUE_WORDS)})", 1.0, 10.0)


def _check_split(values: Mapping[str, Any], gpus: Sequence[Counted], where: str) -> None:
    """Raise ConfigError where nobody can say how GPU-hours or a training divide among several models."""
    uncounted = next((text for text in _texts(values, "gpu") if not _is_counted(text)), None)
    if len(gpus) > 1 and uncounted is not None:
        raise ConfigError(
            f"{key_text(where, 'gpu')}: {uncounted!r:.80} is one of {len(gpus)} models, and how the work is "
            f"divided among them is not said: give the number of each, for example '{uncounted:.60}:8', or a "
            "[[part]] of a file for each model"
        )


def _is_counted(text: str) -> bool:
    """Whether a text says how many GPUs it means, by a count or by the name of a system."""
    name, count = _name_and_count(text)
    return count is not None or split_system(name)[1] > 1


def _texts(values: Mapping[str, Any], key: str) -> Sequence[Any]:
    given = values.get(key)
    return () if given is None else given if isinstance(given, (list, tuple)) else (given,)


def _counted(values: Mapping[str, Any], key: str, where: str) -> tuple[Counted, ...]:
    texts = _texts(values, key)
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError(f'{key_text(where, key)} must be a text or a list of texts: "V100-SXM2:10"')
    return _merged(_counted_one(text, key_text(where, key), key == "gpu") for text in texts)


def _counted_one(text: str, place: str, is_gpu: bool) -> Counted:
    """`NAME`, `NAME:COUNT` or `NAME xCOUNT`; a system's name counts its devices, as in `TPU v3-2048`."""
    name, count = _name_and_count(text)
    tail = "1" if count is None else count
    if _COUNT.fullmatch(tail.strip()) is None or int(tail) > MAX_COUNT:
        raise ConfigError(
            f"{place}: {text!r:.80} is not NAME:COUNT with a count from 1 to {MAX_COUNT:,}; "
            "give for example V100-SXM2:10"
        )
    name, each = split_system(name)
    if not name:
        raise ConfigError(f"{place}: {text!r:.80} names no model; give for example V100-SXM2:10")
    if is_gpu and is_several(name):
        raise ConfigError(
            f"{place}: {text!r:.80} is more than one GPU, and how many is not clear: give NAME:COUNT, for "
            "example 'H100 SXM5 80GB:8'"
        )
    return Counted(name, each * int(tail))


def _name_and_count(text: str) -> tuple[str, str | None]:
    """The name, and the text of the count, None where there is none.

    A name may hold colons itself, only a number after the last one is a count.
    """
    name, colon, tail = text.rpartition(":")
    if colon and (_NUMBER.fullmatch(tail.strip()) or not tail.strip()):
        return name, tail
    name, number = split_count(text)
    return name, None if number is None else str(number)


def _merged(models: Iterable[Counted]) -> tuple[Counted, ...]:
    """The same name given twice is one model with both counts."""
    counts: dict[str, int] = {}
    for name, count in models:
        counts[name] = counts.get(name, 0) + count
    return tuple(Counted(name, count) for name, count in counts.items())

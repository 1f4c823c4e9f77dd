"""The parts of a job that is estimated: its hardware and hours, from options or from a TOML file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from carbonmon.analysis.estimate.consistency import check_consistent
from carbonmon.analysis.estimate.part_values import (
    intensity_at,
    key_text,
    number_at,
    power_at,
    ratio_at,
    scaled_at,
    watts_at,
)
from carbonmon.analysis.estimate.quantities import energy_j_of
from carbonmon.core.config import PUE_WORDS
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import MAIN_PHASE
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.device_counts import split_count, split_system

OPTIONS = (
    *("gpu", "gpu-hours", "gpu-utilization", "gpu-tdp", "gpu-idle", "cpu", "cpu-utilization", "cpu-tdp"),
    *("memory-gb", "hours", "energy", "power", "host-power", "idle-share", "attempts"),
    *("parameters", "tokens", "flops", "mfu", "precision", "flops-peak"),
)
"""What says how much a part draws: the same words are options of the command line and keys of a table."""
KEYS = (*OPTIONS, "region", "intensity", "pue", "name")
"""The keys of a part of a TOML file. Without a place of its own, a part has that of the command line."""
MAX_COUNT = 1_000_000
MAX_HOURS = 876_600.0
"""A century."""
MAX_DEVICE_HOURS = MAX_HOURS * MAX_COUNT
MAX_MEMORY_GB = 1e9
MAX_FLOPS = 1e33
PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "fp8")

_COUNT = re.compile(r"[1-9][0-9]{0,6}")
_NUMBER = re.compile(r"[-+]?[0-9][0-9.,_e+-]*")


class Counted(NamedTuple):
    """A model as the user wrote it, and how many devices of it."""

    name: str
    number: int


class Training(NamedTuple):
    """Work that is known in FLOPs; `stated` is how. `mfu` and `flops_peak` (FLOP/s) are None if not given."""

    flops: float
    stated: str
    mfu: float | None
    precision: str | None
    flops_peak: float | None


@dataclass(frozen=True, slots=True)
class Part:
    """Hardware that works for `hours`; utilisations are ratios from 0 to 1, None where not given.

    `gpu_tdp_w` and `cpu_tdp_w` are the user's own figures, in W for one device, instead of the tables';
    `gpu_idle_w` is what one idle GPU draws. `where` is the part's position in a file, "" for that of the
    command line. Exactly one of `hours`, `gpu_hours`, `training` and `energy_j` is there. `power_w` is that
    of all the hardware together, `host_power_w` that of all hosts without their GPUs. `idle_share` of the
    time the hardware is idle. All of it happens `attempts` times. `region`, `intensity` and `pue` are the
    part's own place, None for that of the job.
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
    training = _training(values, where)
    if not hours and device_hours is None and energy_j is None and training is None:
        raise ConfigError(
            f"{key_text(where, 'hours')}: give for how many hours the hardware works: a number above 0; or "
            "gpu-hours, an energy, or the parameters and tokens of a training"
        )
    return Part(
        name,
        hours,
        _counted(values, "gpu", where),
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
    )


def _training(values: Mapping[str, Any], where: str) -> Training | None:
    """The FLOPs that are given, or 6 × parameters × tokens; None for neither.

    Forward 2 and backward 4 FLOPs a parameter and token: Kaplan et al. 2020 (arXiv:2001.08361, section 2.1),
    Hoffmann et al. 2022 (arXiv:2203.15556, appendix F). Attention over the context is not in it: little where
    the context is short beside 12 × the width (Kaplan et al.). Of a mixture of experts the active parameters
    count.
    """
    flops = scaled_at(values, "flops", where, "a number of FLOPs", 1.0, MAX_FLOPS, "3.14e23")
    stated = "as given"
    if flops is None:
        parameters = scaled_at(values, "parameters", where, "a number of parameters", 1.0, 1e18, "7B")
        tokens = scaled_at(values, "tokens", where, "a number of tokens", 1.0, 1e18, "2T")
        if parameters is None or tokens is None:
            return None
        flops = 6.0 * parameters * tokens
        stated = f"6 × {parameters:g} parameters × {tokens:g} tokens; Kaplan et al. 2020, arXiv:2001.08361"
    precision = values.get("precision")
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(
            f"{key_text(where, 'precision')}: {precision!r:.40} is none of {', '.join(PRECISIONS)}"
        )
    mfu = ratio_at(values, "mfu", where, "a model FLOPs utilisation")
    if mfu == 0:
        raise ConfigError(f"{key_text(where, 'mfu')}: 0 would take for ever: give a ratio above 0")
    peak = scaled_at(values, "flops-peak", where, "a peak in FLOP/s", 1e9, 1e18, "312T")
    return Training(flops, stated, mfu, precision, peak)


def _region(values: Mapping[str, Any], where: str) -> str | None:
    region = values.get("region")
    if region is not None and not isinstance(region, str):
        raise ConfigError(f"{key_text(where, 'region')} must be a text: FR, US-CA or aws:us-east-1")
    return region


def _pue(values: Mapping[str, Any], where: str) -> float | str | None:
    if isinstance(values.get("pue"), str) and values["pue"] in PUE_WORDS:
        return str(values["pue"])
    return number_at(values, "pue", where, f"a PUE (a ratio, or {', '.join(PUE_WORDS)})", 1.0, 10.0)


def _counted(values: Mapping[str, Any], key: str, where: str) -> tuple[Counted, ...]:
    given = values.get(key)
    texts = () if given is None else given if isinstance(given, (list, tuple)) else (given,)
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError(f'{key_text(where, key)} must be a text or a list of texts: "V100-SXM2:10"')
    return _merged(_counted_one(text, key_text(where, key)) for text in texts)


def _counted_one(text: str, place: str) -> Counted:
    """`NAME`, `NAME:COUNT` or `NAME xCOUNT`; a system's name counts its devices, as in `TPU v3-2048`.

    A name may hold colons itself, only a number after the last one is a count.
    """
    name, colon, tail = text.rpartition(":")
    if not colon or not (_NUMBER.fullmatch(tail.strip()) or not tail.strip()):
        name, number = split_count(text)
        tail = "1" if number is None else str(number)
    if _COUNT.fullmatch(tail.strip()) is None or int(tail) > MAX_COUNT:
        raise ConfigError(
            f"{place}: {text!r:.80} is not NAME:COUNT with a count from 1 to {MAX_COUNT:,}; "
            "give for example V100-SXM2:10"
        )
    name, each = split_system(name)
    if not name:
        raise ConfigError(f"{place}: {text!r:.80} names no model; give for example V100-SXM2:10")
    return Counted(name, each * int(tail))


def _merged(models: Iterable[Counted]) -> tuple[Counted, ...]:
    """The same name given twice is one model with both counts."""
    counts: dict[str, int] = {}
    for name, count in models:
        counts[name] = counts.get(name, 0) + count
    return tuple(Counted(name, count) for name, count in counts.items())

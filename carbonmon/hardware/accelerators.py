"""What the sensors of TPUs and of AWS's chips share: which a job was given, and what power is stated."""

from __future__ import annotations

import re
from collections.abc import Sequence

from carbonmon.core.errors import ConfigError, SensorUnavailable
from carbonmon.core.model import Device, Spec, Uncertainty
from carbonmon.core.plausibility import bound_w
from carbonmon.core.ports import SensorSettings
from carbonmon.core.records import NamedTuple
from carbonmon.hardware.device_names import gpu_idle, stated_gpus
from carbonmon.hardware.spec_sheets import largest_power

NOT_NAMED = "not of this job by --gpus, which names GPUs of another kind"
"""Why none of the chips is counted where GPUs are metered too."""


class Choice(NamedTuple):
    """The numbers of the chips that a job was given, whether anybody gave it some, and notes for people.

    There are none where `--gpus` names GPUs of another kind.
    """

    numbers: frozenset[int]
    is_given: bool
    notes: tuple[str, ...] = ()


class Listed(NamedTuple):
    """What a variable of the job's environment lists: chips by number, None for a text that is no list."""

    variable: str
    numbers: frozenset[int] | None


def choose(numbers: Sequence[int], settings: SensorSettings, listed: Listed | None, kind: str) -> Choice:
    """The chips of a job: by `--gpus`, else by what its environment lists, else all.

    Raises `ConfigError` where `--gpus` names one that is not here. `kind` is what such a chip is called.
    """
    everything = frozenset(numbers)
    if settings.gpus is not None and any(device.gpu_ids for device in settings.known.values()):
        return Choice(frozenset(), True)
    if settings.gpus is not None:
        asked = [entry for entry in settings.gpus if entry.isdecimal()]
        missing = [entry for entry in settings.gpus if not entry.isdecimal() or int(entry) not in everything]
        if missing:
            here = ", ".join(str(number) for number in sorted(everything))
            raise ConfigError(
                f"--gpus {','.join(missing)}: no such {kind} here; there are {here} "
                "(carbonmon doctor lists them)"
            )
        return Choice(frozenset(map(int, asked)), True)
    if listed is None:
        return Choice(everything, False)
    if listed.numbers is None or not listed.numbers & everything:
        return Choice(everything, False, (f"{listed.variable} names no {kind} here: all are counted",))
    return Choice(listed.numbers & everything, True)


def parse_numbers(text: str) -> frozenset[int] | None:
    """The numbers of a list as `0,2,4-7`; None for any other text."""
    found: set[int] = set()
    for entry in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,4})(?:\s*-\s*([0-9]{1,4}))?\s*", entry)
        if match is None:
            return None
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return frozenset(found)


def stated_spec(settings: SensorSettings, model: str, uncertainty: Uncertainty) -> Spec | None:
    """The power of one chip: the user's figure, else that of the user's model or of `model` in the table.

    The power at no load is the table's too. None where nobody stated one. Raises `ConfigError` for a model of
    the user's that no table has.
    """
    if settings.gpu_tdp_w is not None:
        return Spec(settings.gpu_tdp_w, uncertainty, "--gpu-tdp")
    if settings.gpu_model is not None:
        stated = stated_gpus(settings)
        if stated is not None:
            model = stated.name
    spec = largest_power(model)
    if spec is None:
        return None
    idle = gpu_idle(model)
    if idle is None:
        return spec._replace(uncertainty=uncertainty)
    return spec._replace(
        uncertainty=uncertainty, idle_w=idle[0], source=f"{spec.source}; at no load {idle[1]}"
    )


def estimated_device(
    settings: SensorSettings,
    device_id: str,
    number: int,
    names: tuple[str, str],
    uncertainty: Uncertainty,
    unknown: tuple[str, str],
) -> Device:
    """A device by its maximum power, which no sensor of it tells; `names` are its maker's and its model's.

    Raises `SensorUnavailable` where nobody states that power: `unknown` says why, and what it is of.
    """
    maker, model = names
    spec = stated_spec(settings, model, uncertainty)
    if spec is None:
        why, what = unknown
        remedy = f"carbonmon run --gpu-tdp WATTS -- …   # the maximum power of a {what}"
        raise SensorUnavailable(f"{model}: {why}", remedy)
    bound = bound_w("gpu", None, spec.tdp_w)
    return Device(device_id, "gpu", f"{maker} {model}", number, ("tdp",), max_power_w=bound, spec=spec)

"""Finds the model of the spec-sheet tables that a user's text names, for every command.

Spellings may vary, nothing is guessed and nothing is dropped: what is left over after a match is a count, or
the name is refused with the nearest. A GPU is found by the name that NVML reports, by the table's own, or by
a short name if all models that match have the same power. Each look-up raises ConfigError for a table that
cannot be used.
"""

from __future__ import annotations

import re

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Spec
from carbonmon.core.ports import SensorSettings
from carbonmon.core.records import NamedTuple
from carbonmon.data import CPUS, GPUS, Row, rows, using
from carbonmon.hardware.cpu_specs import cpu_keys, cpu_spec, is_known_cpu, similar_cpus
from carbonmon.hardware.device_counts import parse_gpu_model, split_count
from carbonmon.hardware.device_spellings import respelled, whole_xeons
from carbonmon.hardware.spec_sheets import gpu_spec, nvml_model, only_memory, similar_gpus

_VENDORS = frozenset(("NVIDIA", "AMD", "INTEL", "GOOGLE", "AWS", "HUAWEI", "META", "MICROSOFT"))
_BRANDS = _VENDORS | frozenset(("TESLA", "GEFORCE", "RADEON", "INSTINCT"))
_FORM_OR_SIZE = re.compile(r"SXM\d?|PCIE|\d+GB")
"""Words that many models share, so that they identify none by themselves."""
_MIG = re.compile(r"\bMIG\b")
_UNSPECIFIED = "(unspecified)"
"""The suffix of the table's row for a name without further details."""
_MAX_CHOICES = 8
_FREQUENCY = re.compile(r"\s*[0-9]+(?:\.[0-9]+)?\s*[GM]Hz\s*", re.IGNORECASE)


class Model(NamedTuple):
    """The name of a model in the output, and the power of one device with its source."""

    name: str
    spec: Spec


class StatedGpus(NamedTuple):
    """The GPUs of `--gpu-model`; `spec` is None for a model of no table whose power `--gpu-tdp` gives."""

    name: str
    number: int
    spec: Spec | None

    def count_note(self, found: int) -> str:
        """What to say where there are other GPUs than it counts: the machine is right."""
        return f"--gpu-model {self.name}:{self.number}: {found} GPUs are here, and these are counted"


def stated_gpus(settings: SensorSettings) -> StatedGpus | None:
    """The GPUs that `--gpu-model` states, None without it; raises `ConfigError` for an unknown model."""
    if settings.gpu_model is None:
        return None
    name, number = parse_gpu_model(settings.gpu_model)
    try:
        spec = gpu_model(name, "--gpu-model").spec
    except ConfigError:
        if settings.gpu_tdp_w is None:
            raise
        spec = None
    return StatedGpus(name, number, spec)


def check_models(settings: SensorSettings) -> None:
    """Raise `ConfigError` for a `--gpu-model` or `--cpu-model` that no table has, whatever needs it."""
    stated_gpus(settings)
    if settings.cpu_model is not None and settings.cpu_tdp_w is None:
        cpu_model(settings.cpu_model, "--cpu-model")


def gpu_model(name: str, place: str) -> Model:
    """The GPU that a text names; raises ConfigError that begins with `place` and lists the choices."""
    if _MIG.search(name):
        raise ConfigError(
            f"{place}: {name!r:.80} is a slice of a GPU: give the GPU, with the utilisation of all of it"
        )
    found = gpu_rows(name)
    specs = [(row, spec) for row in found if (spec := gpu_spec(row["model"])) is not None]
    if found and not specs:
        why = f" ({found[0]['note']})" if found[0]["note"] else ""
        raise ConfigError(
            f"{place}: the TDP of {found[0]['model']} was never published{why}: {_give('gpu', place)}"
        )
    watts = sorted({spec.tdp_w for _, spec in specs})
    if len(watts) > 1:
        choices = [f"{row['model']} ({spec.tdp_w:g} W)" for row, spec in specs]
        more = len(choices) - _MAX_CHOICES
        listed = ", ".join(choices[:_MAX_CHOICES]) + (f" and {more} more" if more > 0 else "")
        raise ConfigError(
            f"{place}: {name!r:.80} may mean {listed}, {watts[0]:g} to {watts[-1]:g} W: "
            f"name one, or {_give('gpu', place)}"
        )
    if not specs:
        raise _unknown(place, name, "gpu", _alike_gpus(name) or similar_gpus(name, _MAX_CHOICES))
    (row, spec), *others = specs
    if not others:
        return Model(row["model"], spec)
    models = " or ".join(row["model"] for row, _ in specs[:_MAX_CHOICES])
    return Model(name, spec._replace(source=f"{models}: TDP {spec.tdp_w:g} W ({row['source']})"))


def gpu_idle(name: str) -> tuple[float, str] | None:
    """What a GPU draws while it is idle, in W, and whose figure that is; None where none was published."""
    with using(GPUS):
        found = {(row["idle_w"], row["idle_source"]) for row in gpu_rows(name)}
        if len(found) != 1 or not all(map(all, found)):
            return None
        watts, source = found.pop()
        return float(watts), f"{float(watts):g} W ({source})"


def cpu_model(name: str, place: str) -> Model:
    """The CPU that a text names, one package of it; raises ConfigError with the most similar of the table."""
    _, at, behind = name.partition("@")
    if at and _FREQUENCY.fullmatch(behind) is None:
        raise ConfigError(
            f"{place}: {behind.strip()!r:.80} behind @ in {name!r:.80} is no frequency: leave it out"
        )
    single, count = split_count(re.sub(r"\s*:\s*([0-9]{1,7})\s*$", r" x\1", name))
    if count is not None and is_known_cpu(single):
        raise ConfigError(
            f"{place}: {name!r:.80} names {count} CPUs: give the model of one package, {single!r:.80}"
            + ("; how many there are is read from /sys" if place == "--cpu-model" else "")
        )
    if not is_known_cpu(name):
        known = [whole for whole in whole_xeons(name) if is_known_cpu(whole)]
        name = known[0] if len(known) == 1 else name
    if not is_known_cpu(name):
        raise _unknown(place, name, "cpu", _alike_cpus(name) or similar_cpus(name, _MAX_CHOICES))
    return Model(name, cpu_spec(name, visible_threads=1, physical_cores=1, virtual=False))


def same_gpu(name: str, other: str) -> bool:
    """Whether two names may mean the same GPU."""
    models, others = ({row["model"] for row in gpu_rows(text)} for text in (name, other))
    return bool(models & others) or name.casefold() == other.casefold()


def same_cpu(name: str, other: str) -> bool:
    """Whether two names mean the same CPU."""
    return bool({*cpu_keys(name)} & {*cpu_keys(other)}) or name.casefold() == other.casefold()


def gpu_rows(name: str) -> list[Row]:
    """The rows of the table that match all of a GPU's name: one, or several for a short name."""
    said, name = name, respelled(name)
    wanted = _words(name)
    if not wanted:
        return []
    vendors = _VENDORS & _all_words(name)
    with using(GPUS):
        table = [row for row in rows(GPUS) if not vendors or row["vendor"].upper() in vendors]
        model = nvml_model(said)
        plain = name.casefold()
        is_drivers = bool(vendors)  # a driver's "NVIDIA H100" says no more; a person's "H100" may mean any
        named_so = [
            row
            for row in table
            if row["model"].casefold() == plain
            or (
                (row["model"] == model or _words(row["model"], True) == wanted)
                and (is_drivers or _UNSPECIFIED not in row["model"])
            )
        ]
        if named_so:
            return named_so[:1]
        short = [row for row in table if row["tdp_w"] and _is_short_for(wanted, row)]
        if short:
            return short
        return [row for row in table if _fits(row, name)][:1]


def _all_words(name: str) -> frozenset[str]:
    plain = name.upper().replace(" GB", "GB")
    return frozenset(word for word in re.split(r"[\s_/()-]+", plain) if word)


def _words(name: str, has_remarks: bool = False) -> frozenset[str]:
    """The words of a model's name without brands: V100, SXM2, 16GB; of the table's names without remarks."""
    return _all_words(re.sub(r"\(.*?\)", " ", name) if has_remarks else name) - _BRANDS


def _model_words(words: frozenset[str]) -> frozenset[str]:
    """The words that identify a model: they have a digit and are no form factor or size of memory."""
    return frozenset(w for w in words if re.search(r"\d", w) and not _FORM_OR_SIZE.fullmatch(w))


def _is_short_for(wanted: frozenset[str], row: Row) -> bool:
    """Whether each wanted word is one of the model's, or its memory; SXM stands for all its generations."""
    words = _words(row["model"], True)
    if not _model_words(wanted) or words == wanted or _UNSPECIFIED in row["model"]:
        return False
    known = {*words, f"{row['memory_gb']}GB", *("SXM" for word in words if word.startswith("SXM"))}
    return wanted <= known


def _fits(row: Row, name: str) -> bool:
    """Whether all of the name but brands and memory matches: a longer one may be that of another board."""
    plain = " ".join(name.split())
    hit = re.search(row["name_regex"], plain)
    return hit is not None and not _words(plain[: hit.start()]) and only_memory(plain[hit.end() :], row)


def _alike_gpus(name: str) -> tuple[str, ...]:
    """The models that share a model word of the name, for an error message."""
    wanted = _model_words(_words(name))
    with using(GPUS):
        found = [row["model"] for row in rows(GPUS) if row["tdp_w"] and wanted & _words(row["model"], True)]
    return tuple(found[:_MAX_CHOICES])


def _alike_cpus(name: str) -> tuple[str, ...]:
    """The same for CPUs: the models that have all words with a digit."""
    wanted = {word for word in re.split(r"[\s-]+", name.lower()) if re.search(r"\d", word)}
    with using(CPUS):
        found = [row["name"] for row in rows(CPUS) if wanted <= {*re.split(r"[\s-]+", row["match_key"])}]
    return tuple(re.sub("[®™]", "", name) for name in found[:_MAX_CHOICES]) if wanted else ()


def _unknown(place: str, name: str, kind: str, near: tuple[str, ...]) -> ConfigError:
    nearest = f"; the nearest are {', '.join(near)}" if near else ""
    return ConfigError(
        f"{place}: the table has no {kind.upper()} {name!r:.80}{nearest}: "
        f"name a model in full, or {_give(kind, place)}"
    )


def _give(kind: str, place: str) -> str:
    """How to give the power without the table, on the command line or in a file."""
    return f"give its power: {f'--{kind}-tdp W' if place.startswith('--') else f'{kind}-tdp = W'}"

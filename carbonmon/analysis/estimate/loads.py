"""The power of the hardware of a part: count × TDP × utilisation, each figure with its source."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from carbonmon.analysis.estimate.figures import number_text
from carbonmon.analysis.estimate.fit import Fit, Group
from carbonmon.analysis.estimate.kinds import KINDS
from carbonmon.analysis.estimate.load import AS_GIVEN, Idle, Load
from carbonmon.analysis.estimate.parts import Counted, Part
from carbonmon.analysis.estimate.work import Work, work_of
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Component, Spec
from carbonmon.core.uncertainty import ASSUMED_UTILIZATION_UNCERTAINTY, TDP_UNCERTAINTY, combine
from carbonmon.hardware.cpu_specs import cpu_cores
from carbonmon.hardware.device_names import Model, cpu_model, gpu_idle, gpu_model, same_cpu, same_gpu
from carbonmon.hardware.memory_power import GIB, memory_spec
from carbonmon.runs.summary.strings import UNNAMED_HARDWARE

ASSUMED_UTILIZATION = 1.0
"""GPUs and CPUs without a given utilisation are taken as fully used, as Green Algorithms does
(Lannelongue et al. 2021, doi:10.1002/advs.202100707: usage factor 1 unless known); the output says so."""


CPU_IDLE_RATIO = 0.12
"""Of its TDP, what an idle CPU draws: measured by Teads, in Boavizta's CPU model (see `TDP_UNCERTAINTY`)."""


def loads_of(part: Part, fit: Fit | None = None) -> list[Load]:
    """The loads of a part's hardware, one for each device model.

    With a fit, a component that the part does not name is that of the run, in the run's number. Raises
    ConfigError for a model that is not in the tables, and for hardware that is not in the fit.
    """
    if part.energy_j is not None:
        return [_given_energy(part, part.energy_j)]
    if not part.has_hours and part.use is not None:
        from carbonmon.analysis.estimate.served import served

        return served(part, part.use)
    work = work_of(part)
    if fit is not None and work.is_device_hours:
        raise ConfigError(
            f"{part.key('gpu')}: --fit takes the rest of that run's hardware too, so the number of GPUs must "
            "be known: give it, or the hours of all of it"
        )
    if part.power_w is not None:
        loads = [_stated(part, work, UNNAMED_HARDWARE, part.power_w)]
    else:
        loads = [*_of_component("gpu", part, work, fit), *_of_component("cpu", part, work, fit)]
        if part.memory_gb is not None:
            spec = memory_spec(round(part.memory_gb * GIB))
            name = f"{number_text(part.memory_gb)} GB of memory"
            loads.append(Load(part.name, "dram", name, 1, spec, None, False, work.hours))
        elif fit is not None:
            loads += [_fitted(part, work, group, group.number) for group in _groups(fit, "dram")]
        if part.host_power_w is not None:
            loads.append(_stated(part, work, "hosts", part.host_power_w))
    if not loads:
        raise ConfigError(
            f"{part.key('gpu')}: no hardware is given: give for example --gpu V100-SXM2:10, "
            '--cpu "Xeon Gold 6154:2" or --memory-gb 512; or its --power, or the --energy'
        )
    return [_worked(load, work) for load in loads]


def _worked(load: Load, work: Work) -> Load:
    """The load with how its hours are known; what they may lie off is in the range."""
    spec = load.spec
    if work.uncertainty is not None:
        spec = spec._replace(uncertainty=combine(work.uncertainty, spec.uncertainty))
    return load._replace(spec=spec, note=work.note, is_device_hours=work.is_device_hours)


def _given_energy(part: Part, joules: float) -> Load:
    spec = Spec(math.nan, AS_GIVEN, "energy, as given")
    note = "" if part.attempts == 1 else f"{number_text(part.attempts)} attempts"
    return Load(
        *(part.name, "module", UNNAMED_HARDWARE, 1, spec, None, False, None),
        given_j=joules * part.attempts,
        note=note,
    )


def _stated(part: Part, work: Work, name: str, watts: float) -> Load:
    spec = Spec(watts, AS_GIVEN, "power, as given")
    return Load(part.name, "module", name, 1, spec, None, False, work.hours)


def _of_component(component: Component, part: Part, work: Work, fit: Fit | None) -> list[Load]:
    is_gpu = component == "gpu"
    wanted = part.gpus if is_gpu else part.cpus
    tdp_w = part.gpu_tdp_w if is_gpu else part.cpu_tdp_w
    utilization = part.gpu_utilization if is_gpu else part.cpu_utilization
    groups = [] if fit is None else _groups(fit, component)
    what = component.upper()
    stray = next(
        (key for key, value in (("utilization", utilization), ("tdp", tdp_w)) if value is not None), None
    )
    if groups and is_gpu and part.kind is not None:
        raise ConfigError(
            f"{part.key('kind')}: --fit takes what the GPUs of that run drew: leave one of them out"
        )
    if groups and not is_gpu and part.cpu_cores is not None:
        raise ConfigError(f"{part.key('cpu-cores')}: --fit takes that run's share of its CPUs: leave one out")
    if stray is not None and groups:
        raise ConfigError(
            f"{part.key(f'{component}-{stray}')}: --fit takes what the {what}s of that run drew, at their "
            "utilisation: leave this out, or the fit"
        )
    if groups and part.idle_share is not None:
        raise ConfigError(
            f"{part.key('idle-share')}: --fit takes what the {what}s of that run drew, idle or not: "
            "leave one of them out"
        )
    if groups:
        return [_fitted(part, work, *choice) for choice in _chosen(groups, wanted, part.key(component))]
    if stray is not None and not wanted:
        raise ConfigError(f"{part.key(f'{component}-{stray}')}: no {what} is named to go with it")
    loads = []
    for name, count in wanted:
        model = _model(component, name, tdp_w, part.key(component))
        if model.spec.assumed_utilization_ratio is not None:
            loads.append(_mean(component, part, work, model, count, utilization))
            continue
        ratio, is_assumed = (ASSUMED_UTILIZATION, True) if utilization is None else (utilization, False)
        spec = model.spec
        if is_gpu and part.kind is not None:
            ratio, uncertainty = KINDS[part.kind].ratio, KINDS[part.kind].uncertainty
            spec = spec._replace(uncertainty=uncertainty)
        elif is_assumed and part.training is None:  # a training with a known or a usual MFU is no idle one
            spec = spec._replace(uncertainty=combine(spec.uncertainty, ASSUMED_UTILIZATION_UNCERTAINTY))
        spec = spec._replace(assumed_utilization_ratio=ratio if is_assumed else None)
        idle = None if part.idle_share is None else _idle(component, part, name, model)
        load = Load(part.name, component, model.name, count, spec, ratio, is_assumed, work.hours)
        share = None if is_gpu or part.cpu_cores is None else _share(part, part.cpu_cores, model.name, count)
        loads.append(load._replace(idle=idle, share=share))
    return loads


def _share(part: Part, cores: float, name: str, count: int) -> tuple[float, float]:
    """The cores that the part has, and those of its packages; raises ConfigError for more than there are."""
    place = part.key("cpu-cores")
    if len(part.cpus) > 1:
        raise ConfigError(f"{place}: of {len(part.cpus)} CPU models it is not known which has them: name one")
    each = cpu_cores(name)
    if each is None:
        raise ConfigError(
            f"{place}: how many cores {name!r:.80} has is in no table: give the power of these cores with "
            + ("cpu-tdp = W" if part.where else "--cpu-tdp W, without --cpu-cores")
        )
    if cores > each * count:
        raise ConfigError(
            f"{place} {number_text(cores)} and cpu {name}:{count} contradict one another: that has "
            f"{number_text(each * count)} cores"
        )
    return cores, float(each * count)


def _mean(
    component: Component, part: Part, work: Work, model: Model, count: int, utilization: float | None
) -> Load:
    """Accelerators of which a mean power was published, whatever they did meanwhile.

    Raises ConfigError for a utilisation, a share of idle time or a kind of job: that mean holds them already.
    """
    given = {
        f"{component}-utilization": utilization,
        "idle-share": part.idle_share,
        "kind": part.kind if component == "gpu" else None,
    }
    for key in (key for key, value in given.items() if value is not None):
        raise ConfigError(
            f"{part.key(key)}: the power of {model.name} is a published mean, {model.spec.tdp_w:g} W, at the "
            f"use that was measured: leave this out, or give {part.key(f'{component}-tdp')}"
        )
    return Load(part.name, component, model.name, count, model.spec, None, False, work.hours)


def _idle(component: Component, part: Part, name: str, model: Model) -> Idle:
    """What a device draws while it is idle; raises ConfigError for a GPU of which that was not published."""
    share = part.idle_share or 0.0
    if component == "cpu":
        watts = CPU_IDLE_RATIO * model.spec.tdp_w
        return Idle(share, watts, f"{number_text(watts)} W, {CPU_IDLE_RATIO:g} × TDP (Teads)")
    if part.gpu_idle_w is not None:
        return Idle(share, part.gpu_idle_w, f"{number_text(part.gpu_idle_w)} W, as given")
    found = gpu_idle(name)
    if found is None:
        raise ConfigError(
            f"{part.key('idle-share')}: what {name!r:.80} draws while it is idle is in no table: give it: "
            + ("gpu-idle = W" if part.where else "--gpu-idle W")
        )
    return Idle(share, *found)


def _model(component: Component, name: str, tdp_w: float | None, place: str) -> Model:
    if tdp_w is not None:
        return Model(name, Spec(tdp_w, TDP_UNCERTAINTY, f"TDP {number_text(tdp_w)} W, as given"))
    return gpu_model(name, place) if component == "gpu" else cpu_model(name, place)


def _groups(fit: Fit, component: Component) -> list[Group]:
    """The run's devices of a kind; a module goes by its GPU's name."""
    kinds = ("gpu", "module") if component == "gpu" else (component,)
    return [group for group in fit.groups if group.component in kinds]


def _chosen(groups: Sequence[Group], wanted: Iterable[Counted], place: str) -> list[tuple[Group, int]]:
    """The run's groups for the wanted models, with the wanted counts; all groups if none is wanted."""
    chosen = []
    for name, count in wanted:
        same = same_cpu if groups[0].component == "cpu" else same_gpu
        hits = [group for group in groups if same(name, group.name)]
        if len(hits) != 1:
            names = ", ".join(group.name for group in (hits or groups))
            raise ConfigError(
                f"{place}: the run of --fit had {names}, which gives no power of {name!r:.80}: "
                "name what it had, or leave the fit out"
            )
        chosen.append((hits[0], count))
    return chosen or [(group, group.number) for group in groups]


def _fitted(part: Part, work: Work, group: Group, count: int) -> Load:
    return Load(
        *(part.name, group.component, group.name, count, group.spec, None, False, work.hours),
        seen_utilization=group.utilization,
    )

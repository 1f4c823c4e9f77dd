"""The power of the hardware of a part: count × TDP × utilisation, each figure with its source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from carbonmon.analysis.estimate.fit import Fit, Group
from carbonmon.analysis.estimate.parts import Counted, Part
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Component, Spec
from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.hardware.device_names import Model, cpu_model, gpu_model, same_cpu, same_gpu
from carbonmon.hardware.memory_power import GIB, memory_spec

ASSUMED_UTILIZATION = 1.0
"""GPUs and CPUs without a given utilisation are taken as fully used, as Green Algorithms does
(Lannelongue et al. 2021, doi:10.1002/advs.202100707: usage factor 1 unless known); the output says so."""


class Load(NamedTuple):
    """Devices of one model that work for `hours` in a part of the job.

    Each draws `spec.tdp_w` × `utilization`; that is None where the power does not depend on utilisation, and
    `is_assumed` where it was not given. `seen_utilization` is that of the run which the power was fitted to.
    """

    part: str
    component: Component
    name: str
    number: int
    spec: Spec
    utilization: float | None
    is_assumed: bool
    hours: float
    seen_utilization: float | None = None

    @property
    def power_w(self) -> float:
        """Watts of all the devices together."""
        return self.number * self.spec.tdp_w * (1.0 if self.utilization is None else self.utilization)

    @property
    def energy_j(self) -> float:
        return self.power_w * self.hours * 3600.0

    @property
    def formula(self) -> str:
        """The inputs and their product in words: `10 × 300 W × 0.8 = 2400 W`."""
        factors = [f"{self.number}", f"{number_text(self.spec.tdp_w)} W"]
        if self.utilization is not None:
            factors.append(f"{number_text(self.utilization)}{' (assumed)' if self.is_assumed else ''}")
        return f"{' × '.join(factors)} = {number_text(self.power_w)} W"


def number_text(number: float) -> str:
    """Six significant digits at most, without trailing zeros and never in powers of ten."""
    return f"{float(f'{number:.6g}'):f}".rstrip("0").rstrip(".")


def loads_of(part: Part, fit: Fit | None = None) -> list[Load]:
    """The loads of a part's hardware, one for each device model.

    With a fit, a component that the part does not name is that of the run, in the run's number. Raises
    ConfigError for a model that is not in the tables, and for hardware that is not in the fit.
    """
    loads = [*_of_component("gpu", part, fit), *_of_component("cpu", part, fit)]
    if part.memory_gb is not None:
        spec = memory_spec(round(part.memory_gb * GIB))
        name = f"{number_text(part.memory_gb)} GB of memory"
        loads.append(Load(part.name, "dram", name, 1, spec, None, False, part.hours))
    elif fit is not None:
        loads += [_fitted(part, group, group.number) for group in _groups(fit, "dram")]
    if not loads:
        raise ConfigError(
            f"{part.key('gpu')}: no hardware is given: give for example --gpu V100-SXM2:10, "
            '--cpu "Xeon Gold 6154:2" or --memory-gb 512'
        )
    return loads


def _of_component(component: Component, part: Part, fit: Fit | None) -> list[Load]:
    is_gpu = component == "gpu"
    wanted = part.gpus if is_gpu else part.cpus
    tdp_w = part.gpu_tdp_w if is_gpu else part.cpu_tdp_w
    utilization = part.gpu_utilization if is_gpu else part.cpu_utilization
    groups = [] if fit is None else _groups(fit, component)
    what = component.upper()
    stray = next(
        (key for key, value in (("utilization", utilization), ("tdp", tdp_w)) if value is not None), None
    )
    if stray is not None and groups:
        raise ConfigError(
            f"{part.key(f'{component}-{stray}')}: --fit takes what the {what}s of that run drew, at their "
            "utilisation: leave this out, or the fit"
        )
    if groups:
        return [_fitted(part, *choice) for choice in _chosen(groups, wanted, part.key(component))]
    if stray is not None and not wanted:
        raise ConfigError(f"{part.key(f'{component}-{stray}')}: no {what} is named to go with it")
    loads = []
    for name, count in wanted:
        model = _model(component, name, tdp_w, part.key(component))
        ratio, is_assumed = (ASSUMED_UTILIZATION, True) if utilization is None else (utilization, False)
        spec = model.spec._replace(assumed_utilization_ratio=ratio if is_assumed else None)
        loads.append(Load(part.name, component, model.name, count, spec, ratio, is_assumed, part.hours))
    return loads


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


def _fitted(part: Part, group: Group, count: int) -> Load:
    return Load(
        *(part.name, group.component, group.name, count, group.spec, None, False, part.hours),
        seen_utilization=group.utilization,
    )

"""The CPU packages whose power is estimated by TDP, each with this machine's share of it."""

from __future__ import annotations

from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Device, Spec
from carbonmon.core.plausibility import bound_w
from carbonmon.core.ports import SensorSettings
from carbonmon.core.uncertainty import TDP_UNCERTAINTY
from carbonmon.hardware.cpu_info import CpuInfo, read_cpu_info
from carbonmon.hardware.cpu_specs import PackageSpec, is_known_cpu, package_spec, similar_cpus


def estimated_packages(settings: SensorSettings) -> tuple[list[Device], list[str]]:
    """A device for every package, or a fallback for each die that another sensor meters; notes for people.

    What another sensor meters is the whole package: its fallback is, too, and `rapl` takes the share.
    """
    info = read_cpu_info(settings.sysfs, settings.procfs)
    devices: list[Device] = []
    for package in sorted(info.threads):
        device_id = f"package-{package}"
        dies = [known for known in settings.known if known.startswith(f"{device_id}-die-")]
        is_metered = bool(dies) or device_id in settings.known
        found = _package(settings, info, package, is_metered)
        # A share of a package, or an estimate from cores, bounds nothing.
        most_w = bound_w("cpu", None, found.spec.tdp_w) if found.is_whole else None
        spec, note = found.spec, found.share_note
        if not is_metered and info.container_ratio < 1.0:
            source = f"{spec.source}; {info.container_note}"
            spec = spec._replace(tdp_w=spec.tdp_w * info.container_ratio, source=source)
            note, most_w = "; ".join(filter(None, (info.container_note, note))), None
        device = Device(
            device_id,
            "cpu",
            settings.cpu_model or info.model,
            package,
            ("tdp",),
            max_power_w=most_w,
            spec=spec,
            share_note=note,
        )
        count = max(1, len(dies))
        part = spec._replace(tdp_w=spec.tdp_w / count, source=f"{spec.source}, 1/{count} of it")
        devices.extend(device._replace(id=die, spec=part) for die in dies)
        if not dies:
            devices.append(device)
    notes = []
    if info.quota is not None and info.quota < info.visible and info.container_ratio == 1.0:
        notes.append(f"CPU quota {info.quota:g} of {info.visible} CPUs: energy goes by CPU time")
    return devices, notes


def _package(settings: SensorSettings, info: CpuInfo, package: int, is_metered: bool) -> PackageSpec:
    """What this machine has of one package, by the user's word or by the table.

    Of a package with a counter all cores are this machine's, also where the firmware switched some off.
    """
    model = settings.cpu_model or info.model
    if settings.cpu_tdp_w is not None:
        return PackageSpec(Spec(settings.cpu_tdp_w, TDP_UNCERTAINTY, "--cpu-tdp"), True, "")
    if settings.cpu_model and not is_known_cpu(settings.cpu_model):
        names = similar_cpus(model)
        nearest = f"nearest: {', '.join(names)}; or " if names else ""
        raise ConfigError(
            f"--cpu-model {model}: no such CPU in the spec table; {nearest}give --cpu-tdp WATTS"
        )
    threads = info.threads[package]
    found = package_spec(
        model,
        visible_threads=threads,
        physical_cores=info.cores_per_package or threads // max(1, info.threads_per_core),
        virtual=info.is_virtual or (False if is_metered else None),
        threads_per_core=info.threads_per_core,
    )
    if settings.cpu_model or not info.named_by:
        return found
    spec = found.spec._replace(source=f"{found.spec.source}; named by {info.named_by}")
    return found._replace(spec=spec)

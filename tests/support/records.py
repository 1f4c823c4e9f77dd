"""Factories for the records that exporters see: small to call, complete, and each field can be replaced.

Everything is fixed: no clock, no chance. Defaults describe a node in the middle of a healthy run.
"""

from __future__ import annotations

from carbonmon.core.budgets import BudgetState, parse_budget
from carbonmon.core.forecast import Forecast
from carbonmon.core.gpu_time import GpuTime
from carbonmon.core.model import (
    MAIN_PHASE,
    Component,
    Device,
    DeviceState,
    IdlePolicy,
    Intensity,
    Method,
    NodeTotal,
    Rank,
    RunInfo,
    RunState,
    RunTotal,
    SensorState,
    Snapshot,
    Spec,
    Uncertainty,
)
from carbonmon.core.pace import Range
from carbonmon.core.work import COUNTS, GpuPeak, Span, Work

START_S = 1_795_000_000.0
SENSOR_UNCERTAINTY = Uncertainty(0.05, 0.05, "NVML documentation")
SPEC_UNCERTAINTY = Uncertainty(0.4, 0.2, "spread of measured utilisation curves")
GRAMS_PER_JOULE = 0.0001
"""360 g/kWh at a PUE of 1."""

HOSTILE_TEXTS = (
    'say "hi"',
    "two\nlines",
    "back\\slash and \\n",
    "größe µ 東京 🔥",
    "tab\tand\rreturn",
    "line\u2028separator",
    "",
    " lead and trail ",
    "{curly}=\"x\",y='z'",
    "# EOF",
)
"""Names that a user may give a run; each must come through a round trip unchanged."""

UNDECODABLE = "caf\udce9"
"""What Python makes of an argument that is not UTF-8."""


def forecast(done_ratio: float = 0.25) -> Forecast:
    """A run of 40 kJ in 100 s, with the ranges of one that is a quarter done."""
    return Forecast(
        done_ratio,
        Range(95.0, 100.0, 120.0),
        Range(36e3, 40e3, 48e3),
        Range(3.6, 4.0, 4.8),
        Range(1e-3, 2e-3, 3e-3),
        "EUR",
    )


def budget_state(text: str = "2kWh", spent: float = 1.8e6) -> BudgetState:
    return BudgetState(*parse_budget(text), spent, "warn")


def gpu(index: int = 0) -> Device:
    return Device(
        id=f"GPU-{index:08d}-1111-2222-3333-444444444444",
        component="gpu",
        name="NVIDIA A100-SXM4-80GB",
        index=index,
        methods=("counter", "power", "tdp"),
        max_power_w=400.0,
        spec=Spec(400.0, SPEC_UNCERTAINTY, "vendor's data sheet"),
        measured_uncertainty=SENSOR_UNCERTAINTY,
    )


def package(index: int = 0) -> Device:
    return Device(
        id=f"package-{index}",
        component="cpu",
        name="AMD EPYC 7742 64-Core Processor",
        index=index,
        methods=("counter", "tdp"),
        counter_range_uj=262_143_328_850,
        spec=Spec(225.0, SPEC_UNCERTAINTY, "vendor's data sheet"),
        measured_uncertainty=SENSOR_UNCERTAINTY,
    )


def dram(index: int = 0) -> Device:
    return Device(
        id=f"dram-{index}",
        component="dram",
        name="memory of package 0",
        index=index,
        methods=("tdp",),
        spec=Spec(30.0, SPEC_UNCERTAINTY, "W per GB"),
    )


def device_state(
    device: Device,
    *,
    counter_j: float = 0.0,
    power_j: float = 0.0,
    tdp_j: float = 0.0,
    unattributed_j: float = 0.0,
    power_w: float | None = 250.0,
    peak_power_w: float | None = 310.0,
    mean_power_w: float | None = 240.0,
    utilization_ratio: float | None = 0.9,
    utilization_mean_ratio: float | None = 0.8,
    unobserved_s: float = 0.0,
    resets: int = 0,
    jumps: int = 0,
) -> DeviceState:
    return DeviceState(
        device=device,
        counter_j=counter_j,
        power_j=power_j,
        tdp_j=tdp_j,
        unattributed_j=unattributed_j,
        power_w=power_w,
        peak_power_w=peak_power_w,
        mean_power_w=mean_power_w,
        utilization_ratio=utilization_ratio,
        utilization_mean_ratio=utilization_mean_ratio,
        unobserved_s=unobserved_s,
        resets=resets,
        jumps=jumps,
    )


def run_total(
    device_id: str,
    component: Component,
    method: Method,
    energy_j: float,
    *,
    phase: str = MAIN_PHASE,
    emissions_g: float | None = None,
    emissions_low_g: float | None = None,
    emissions_high_g: float | None = None,
) -> RunTotal:
    """One row; its emissions follow from the energy at 360 g/kWh, −10 % to +20 %, unless given."""
    grams = energy_j * GRAMS_PER_JOULE if emissions_g is None else emissions_g
    return RunTotal(
        phase=phase,
        component=component,
        device_id=device_id,
        method=method,
        energy_j=energy_j,
        emissions_g=grams,
        emissions_low_g=grams * 0.9 if emissions_low_g is None else emissions_low_g,
        emissions_high_g=grams * 1.2 if emissions_high_g is None else emissions_high_g,
    )


def node_total(state: DeviceState, part: float = 1.0) -> NodeTotal:
    """So much of what a device has drawn, as a run that lasted as long saw it; 360 g/kWh."""
    return NodeTotal(
        state.device.id,
        state.counter_j * part,
        state.power_j * part,
        state.tdp_j * part,
        state.energy_j * part * GRAMS_PER_JOULE,
        (state.utilization_mean_ratio or 0.0) * 3600.0,
        0.0 if state.utilization_mean_ratio is None else 3600.0,
        *(state.resets, state.jumps, state.step_backs, state.stuck, state.implausible),
    )


def run_info(
    run_id: str = "slurm-4242",
    *,
    name: str = "train",
    command: tuple[str, ...] = ("python", "train.py"),
    labels: tuple[tuple[str, str], ...] = (),
    scheduler: str = "slurm",
    scheduler_job_id: str = "4242",
    idle_policy: IdlePolicy = "exclusive",
    user: str = "",
) -> RunInfo:
    return RunInfo(
        id=run_id,
        name=name,
        command=command,
        labels=labels,
        host="node-7",
        started_at_s=START_S,
        scheduler=scheduler,
        scheduler_job_id=scheduler_job_id,
        uid=1000,
        user=user,
        idle_policy=idle_policy,
    )


def run_state(
    info: RunInfo | None = None,
    totals: tuple[RunTotal, ...] = (),
    *,
    power_w: tuple[tuple[str, float | None], ...] = (),
    unobserved_s: tuple[tuple[str, float], ...] = (),
    phases_s: tuple[tuple[str, float], ...] = ((MAIN_PHASE, 3600.0),),
    duration_s: float = 3600.0,
    ended_at_s: float | None = None,
    exit_code: int | None = None,
    signal: int | None = None,
    node: tuple[NodeTotal, ...] = (),
    shares: tuple[tuple[str, str], ...] = (),
    cpu_s: float | None = None,
    processes: int | None = None,
    progress: tuple[float, float | None] | None = None,
    work: Work | None = None,
    ranks: tuple[Rank, ...] = (),
) -> RunState:
    return RunState(
        info=info or run_info(),
        totals=totals,
        power_w=power_w,
        unobserved_s=unobserved_s,
        phases_s=phases_s,
        duration_s=duration_s,
        ended_at_s=ended_at_s,
        exit_code=exit_code,
        signal=signal,
        node=node,
        shares=shares,
        cpu_s=cpu_s,
        processes=processes,
        work=work if progress is None else Work(*progress),
        ranks=ranks,
    )


def intensity(g_per_kwh: float = 360.0, *, timestamp_s: float | None = None) -> Intensity:
    return Intensity(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=g_per_kwh * 0.9,
        high_g_per_kwh=g_per_kwh * 1.2,
        zone="DE",
        source="Ember",
        kind="table",
        basis="lifecycle",
        accounting="production",
        year=2024,
        timestamp_s=timestamp_s,
    )


def snapshot(
    runs: tuple[RunState, ...] = (),
    devices: tuple[DeviceState, ...] = (),
    *,
    samples: int = 3600,
    sensors: tuple[SensorState, ...] = (
        SensorState("nvml", "used", "", up=True, read_s=0.0021, errors=(("timeout", 2),)),
        SensorState("rapl", "not used", "energy_uj cannot be read", "sudo chmod o+r energy_uj"),
    ),
    now: Intensity | None = None,
    pue_ratio: float = 1.0,
    exporter_errors: tuple[tuple[str, int], ...] = (("prometheus", 0), ("summary", 0)),
) -> Snapshot:
    return Snapshot(
        at_s=START_S + 3600.0,
        version="0.1.0",
        interval_s=1.0,
        samples=samples,
        runs=runs,
        devices=devices,
        sensors=sensors,
        intensity=now or intensity(),
        pue_ratio=pue_ratio,
        exporter_errors=exporter_errors,
    )


def work(energy_j: float = 1_000_000.0, job_ratio: float = 1.0, peak_flop_per_s: float = 312e12) -> Work:
    """600 of 1000 steps of 8 samples and 4096 tokens, told from the first minute of an hour to its end.

    The run draws `energy_j`, a sixtieth of it before the first report.
    """
    done = {"steps": 600.0, "epochs": 0.5, "samples": 4800.0, "tokens": 600 * 4096.0, "flops": 600 * 1e15}
    return Work(
        *(done["steps"], 1000.0, done["epochs"], done["samples"], done["tokens"], done["flops"]),
        precision="bf16",
        peaks=tuple(GpuPeak(gpu(index).id, peak_flop_per_s) for index in range(8)),
        job_ratio=job_ratio,
        spans=tuple(Span(what, 0.0, done[what], 60.0, 3600.0, energy_j / 60.0, energy_j) for what in COUNTS),
    )


def node(gpus: int = 8, packages: int = 2, drams: int = 2, info: RunInfo | None = None) -> Snapshot:
    """A whole node with one run that owns all of it: GPUs and packages measured, memory estimated."""
    gpu_states = tuple(
        device_state(gpu(index), counter_j=900_000.0, power_j=1_000.0) for index in range(gpus)
    )
    cpu_states = tuple(device_state(package(index), counter_j=300_000.0) for index in range(packages))
    dram_states = tuple(device_state(dram(index), tdp_j=40_000.0, power_w=11.5) for index in range(drams))
    states = gpu_states + cpu_states + dram_states
    totals = tuple(
        run_total(state.device.id, state.device.component, method, joules)
        for state in states
        for method, joules in zip(
            ("counter", "power", "tdp"), (state.counter_j, state.power_j, state.tdp_j), strict=True
        )
        if method in state.device.methods
    )
    run = run_state(
        info,
        totals,
        power_w=tuple((state.device.id, state.power_w) for state in states),
        unobserved_s=tuple((state.device.id, 0.0) for state in states),
        node=tuple(map(node_total, states)),
        cpu_s=7200.0,
        processes=9,
    )._replace(
        work=work(energy_j=sum(row.energy_j for row in totals)),
        gpu_time=GpuTime(3600.0 * gpus, 36.0, 0.0, 4000.0) if gpus else None,
        peaks_w=tuple((state.device.id, state.peak_power_w) for state in states),
        samples=3600,
        monitor_cpu_s=1.5,
    )
    return snapshot((run,), states)


def crowd(runs: int = 100) -> Snapshot:
    """The same node, on which many runs have an equal part of every device."""
    whole = node()
    (run,) = whole.runs
    totals = tuple(
        run_total(row.device_id, row.component, row.method, row.energy_j / runs) for row in run.totals
    )
    return whole._replace(
        runs=tuple(
            run._replace(info=run_info(f"slurm-{number}", idle_policy="proportional"), totals=totals)
            for number in range(runs)
        )
    )

"""The table of all metric families: names, labels and meaning, once, for exporters, analysis and docs."""

from __future__ import annotations

from typing import Literal

from carbonmon.core.records import NamedTuple


class Family(NamedTuple):
    """One family as it is documented. `name` is the name of its samples, as in a query."""

    kind: Literal["counter", "gauge", "info"]
    name: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def family_name(self) -> str:
        """The name of the family as OpenMetrics has it: that of its samples without its kind's suffix."""
        return self.name.removesuffix({"counter": "_total", "info": "_info"}.get(self.kind, ""))


RUN_ENERGY = Family(
    "counter",
    "carbonmon_run_energy_joules_total",
    "Energy that the run caused, without PUE; method counter and power are measured, tdp is estimated.",
    ("run_id", "phase", "component", "device", "method"),
)
RUN_EMISSIONS = Family(
    "counter",
    "carbonmon_run_emissions_grams_total",
    "CO2 equivalent of the run's energy, with PUE, at the grid's intensity when it was drawn.",
    ("run_id", "phase", "component"),
)
RUN_POWER = Family(
    "gauge",
    "carbonmon_run_power_watts",
    "Power of the run's part of a device over the last interval; absent while unknown and after its end.",
    ("run_id", "component", "device"),
)
RUN_UNOBSERVED = Family(
    "counter",
    "carbonmon_run_unobserved_seconds_total",
    "Seconds of the run for which a device's energy could not be known; none was invented for them.",
    ("run_id", "device"),
)
RUN_NODE_ENERGY = Family(
    "counter",
    "carbonmon_run_node_energy_joules_total",
    "Energy that all metered devices drew while the run lasted, whoever caused it; measured or estimated.",
    ("run_id", "component"),
)
RUN_CPU = Family(
    "counter",
    "carbonmon_run_cpu_seconds_total",
    "CPU time that the run's processes used; absent where nobody counts it.",
    ("run_id",),
)
RUN_PROCESSES = Family(
    "gauge",
    "carbonmon_run_processes",
    "How many processes of the run live now; absent while unknown and after its end.",
    ("run_id",),
)
RUN_PHASE = Family(
    "info",
    "carbonmon_run_phase_info",
    "The phase that a run is in; of several at once, that of the most participants. Absent after its end.",
    ("run_id", "phase"),
)
RUN_PROGRESS = Family(
    "gauge",
    "carbonmon_run_progress_ratio",
    "Steps done of all steps, 0 to 1, as the training code reports them; absent where it does not.",
    ("run_id",),
)
RUN_FORECAST_ENERGY = Family(
    "gauge",
    "carbonmon_run_forecast_energy_joules",
    "Energy that the whole run will cause; bound low, expected or high. Absent where nobody can know.",
    ("run_id", "bound"),
)
RUN_FORECAST_EMISSIONS = Family(
    "gauge",
    "carbonmon_run_forecast_emissions_grams",
    "CO2 equivalent that the whole run is expected to cause, at the intensity in force now.",
    ("run_id", "bound"),
)
RUN_FORECAST_COST = Family(
    "gauge",
    "carbonmon_run_forecast_cost",
    "What the whole run is expected to cost, at the price in force now.",
    ("run_id", "bound", "currency"),
)
RUN_FORECAST_END = Family(
    "gauge",
    "carbonmon_run_forecast_end_time_seconds",
    "Unix time at which the run is expected to end.",
    ("run_id", "bound"),
)
RUN_BUDGET_LIMIT = Family(
    "gauge",
    "carbonmon_run_budget_limit",
    "A limit that the user set to the run, in its unit: joules, grams, seconds or a currency's.",
    ("run_id", "budget", "unit"),
)
RUN_BUDGET_SPENT = Family(
    "gauge",
    "carbonmon_run_budget_spent_ratio",
    "The part of a budget that is spent, more than 1 if exceeded; of one a day by all runs of the day.",
    ("run_id", "budget"),
)
RUN_PAUSED = Family(
    "gauge",
    "carbonmon_run_paused",
    "1 while the job stands still because of the grid's intensity, else 0; of runs with --pause-above.",
    ("run_id",),
)
RUN_PAUSE_SECONDS = Family(
    "counter",
    "carbonmon_run_pause_seconds_total",
    "Time for which the job stood still because of the grid's intensity; of runs with --pause-above.",
    ("run_id",),
)
RUN_STEPS = Family(
    "counter",
    "carbonmon_run_steps_total",
    "Steps done since the training code's first report; those that a restart does again count once.",
    ("run_id",),
)
RUN_EPOCHS = Family(
    "counter", "carbonmon_run_epochs_total", "Epochs done since the first report.", ("run_id",)
)
RUN_SAMPLES = Family(
    "counter", "carbonmon_run_samples_total", "Samples done since the first report.", ("run_id",)
)
RUN_TOKENS = Family(
    "counter", "carbonmon_run_tokens_total", "Tokens done since the first report.", ("run_id",)
)
RUN_FLOPS = Family(
    "counter",
    "carbonmon_run_flops_total",
    "Floating-point operations that the model needed since the first report.",
    ("run_id",),
)
RUN_GPU_SECONDS = Family(
    "counter",
    "carbonmon_run_gpu_seconds_total",
    "Time of GPUs that the run held, times its share of each; state is busy, idle or unknown.",
    ("run_id", "state"),
)
RUN_GPU_IDLE_ENERGY = Family(
    "counter",
    "carbonmon_run_gpu_idle_energy_joules_total",
    "Energy of the run's GPUs while they were idle: utilisation below 1 % over an interval.",
    ("run_id",),
)
RUN_WATER = Family(
    "counter",
    "carbonmon_run_water_liters_total",
    "Water that the site used for the run's energy, by its WUE; absent without one.",
    ("run_id",),
)
RUN_COST = Family(
    "gauge",
    "carbonmon_run_cost",
    "What the run's energy cost so far, with PUE; falls while prices are negative. Absent without a price.",
    ("run_id", "currency"),
)
RUN_START = Family("gauge", "carbonmon_run_start_time_seconds", "Unix time of the run's start.", ("run_id",))
RUN_END = Family(
    "gauge", "carbonmon_run_end_time_seconds", "Unix time of the run's end; absent until then.", ("run_id",)
)
RUN_INFO = Family(
    "info",
    "carbonmon_run_info",
    "What a run is, and whose (`user` with --user-names); the labels that the user gave come on top.",
    ("run_id", "name", "scheduler", "scheduler_job_id", "zone", "idle_policy", "uid", "user"),
)
DEVICE_ENERGY = Family(
    "counter",
    "carbonmon_device_energy_joules_total",
    "Energy that the device drew, whoever caused it; counter and power are measured, tdp is estimated.",
    ("component", "device", "method"),
)
DEVICE_UNATTRIBUTED = Family(
    "counter",
    "carbonmon_device_unattributed_energy_joules_total",
    "Part of the device's energy that belongs to no run.",
    ("component", "device"),
)
DEVICE_POWER = Family(
    "gauge",
    "carbonmon_device_power_watts",
    "Power of the device over the last interval; absent while unknown.",
    ("component", "device"),
)
DEVICE_UTILIZATION = Family(
    "gauge",
    "carbonmon_device_utilization_ratio",
    "Utilisation of the device over the last interval, 0 to 1; absent while unknown.",
    ("component", "device"),
)
DEVICE_INFO = Family(
    "info", "carbonmon_device_info", "What a device is.", ("component", "device", "name", "index")
)
NODE_POWER = Family(
    "gauge",
    "carbonmon_node_power_watts",
    "Power of the whole machine, the devices in it, as a node meter says; absent while unknown.",
    ("meter",),
)
NODE_ENERGY = Family(
    "counter",
    "carbonmon_node_energy_joules_total",
    "Energy of the whole machine, measured; an envelope of the devices, never to be added to theirs.",
    ("meter",),
)
NODE_COVERED = Family(
    "counter",
    "carbonmon_node_covered_energy_joules_total",
    "What the metered devices drew while the node meter observed; the rest of the node is no metered device.",
    ("meter",),
)
NODE_COVERAGE = Family(
    "gauge",
    "carbonmon_node_coverage_ratio",
    "Part of the machine's energy of the last minute that the metered devices drew; absent while unknown.",
    ("meter",),
)
NODE_UNATTRIBUTED = Family(
    "counter",
    "carbonmon_node_unattributed_energy_joules_total",
    "Part of the machine's energy that no run was charged with; only where --charge node charges them.",
    ("meter",),
)
RUN_CHARGED_ENERGY = Family(
    "counter",
    "carbonmon_run_charged_energy_joules_total",
    "The run's part of the whole machine's energy (--charge node); its devices' energy is in it.",
    ("run_id", "meter"),
)
RUN_CHARGED_EMISSIONS = Family(
    "counter",
    "carbonmon_run_charged_emissions_grams_total",
    "CO2 equivalent of the run's part of the whole machine's energy (--charge node), with PUE.",
    ("run_id", "meter"),
)
RUN_METER_ENERGY = Family(
    "counter",
    "carbonmon_run_node_meter_energy_joules_total",
    "What a node meter measured of the whole machine while the run lasted, whoever caused it.",
    ("run_id", "meter", "method"),
)
RUN_METER_COVERED = Family(
    "counter",
    "carbonmon_run_node_meter_covered_energy_joules_total",
    "What the metered devices drew while the run lasted and the node meter observed, whoever caused it.",
    ("run_id", "meter"),
)
RUN_METER_UNOBSERVED = Family(
    "counter",
    "carbonmon_run_node_meter_unobserved_seconds_total",
    "Seconds of the run for which a node meter's energy could not be known; none was invented for them.",
    ("run_id", "meter"),
)
NODE_UNOBSERVED = Family(
    "counter",
    "carbonmon_node_unobserved_seconds_total",
    "Seconds for which a node meter's energy could not be known; none was invented for them.",
    ("meter",),
)
UNCERTAINTY = Family(
    "gauge",
    "carbonmon_energy_uncertainty_ratio",
    "The truth is at least 1 - (bound low) and at most 1 + (bound high) times an energy of this method.",
    ("component", "method", "bound"),
)
ANOMALIES = Family(
    "counter",
    "carbonmon_counter_anomalies_total",
    "Rejected readings: reset, jump, step_back and stuck of a hardware counter; implausible of any quantity.",
    ("device", "kind"),
)
GRID_INTENSITY = Family(
    "gauge",
    "carbonmon_grid_intensity_grams_per_kilowatt_hour",
    "Carbon intensity of electricity in force; kind is fixed, table, live, forecast or stale.",
    ("zone", "source", "kind"),
)
GRID_TIMESTAMP = Family(
    "gauge",
    "carbonmon_grid_intensity_timestamp_seconds",
    "Unix time for which the intensity was stated; absent where the source states none.",
    ("zone", "source"),
)
PUE = Family("gauge", "carbonmon_pue_ratio", "Power usage effectiveness that the emissions include.")
WUE = Family(
    "gauge",
    "carbonmon_wue_liters_per_kilowatt_hour",
    "Water usage effectiveness that the water includes; absent without one.",
)
PRICE = Family(
    "gauge",
    "carbonmon_price_per_kilowatt_hour",
    "Price of a kWh in force; absent while unknown.",
    ("currency",),
)
GRID_ERRORS = Family(
    "counter",
    "carbonmon_grid_fetch_errors_total",
    "Questions to a live source of intensity that had no useful answer.",
    ("source", "reason"),
)
SENSOR_UP = Family(
    "gauge", "carbonmon_sensor_up", "1 if the sensor's last read succeeded, else 0.", ("sensor",)
)
SENSOR_SECONDS = Family(
    "gauge", "carbonmon_sensor_read_seconds", "Duration of the sensor's last read.", ("sensor",)
)
SENSOR_ERRORS = Family(
    "counter",
    "carbonmon_sensor_read_errors_total",
    "Reads that failed; each was a gap or was bridged by the next counter reading.",
    ("sensor", "reason"),
)
EXPORTER_ERRORS = Family(
    "counter", "carbonmon_exporter_errors_total", "Failures of an exporter.", ("exporter",)
)
LAST_SAMPLE = Family(
    "gauge",
    "carbonmon_last_sample_timestamp_seconds",
    "Unix time of the last sample; absent before the first.",
)
SAMPLE_INTERVAL = Family(
    "gauge",
    "carbonmon_sample_interval_seconds",
    "Time between two samples, as it was asked for or shortened.",
)
BUILD_INFO = Family("info", "carbonmon_build_info", "The running version of carbonmon.", ("version",))

FAMILIES: tuple[Family, ...] = (
    RUN_ENERGY,
    RUN_EMISSIONS,
    RUN_POWER,
    RUN_UNOBSERVED,
    RUN_NODE_ENERGY,
    RUN_CPU,
    RUN_PROCESSES,
    RUN_PHASE,
    RUN_PROGRESS,
    RUN_FORECAST_ENERGY,
    RUN_FORECAST_EMISSIONS,
    RUN_FORECAST_COST,
    RUN_FORECAST_END,
    RUN_BUDGET_LIMIT,
    RUN_BUDGET_SPENT,
    RUN_PAUSED,
    RUN_PAUSE_SECONDS,
    *(RUN_STEPS, RUN_EPOCHS, RUN_SAMPLES, RUN_TOKENS, RUN_FLOPS),
    RUN_GPU_SECONDS,
    RUN_GPU_IDLE_ENERGY,
    RUN_WATER,
    RUN_COST,
    RUN_START,
    RUN_END,
    RUN_INFO,
    DEVICE_ENERGY,
    DEVICE_UNATTRIBUTED,
    DEVICE_POWER,
    DEVICE_UTILIZATION,
    DEVICE_INFO,
    *(NODE_POWER, NODE_ENERGY, NODE_COVERED, NODE_COVERAGE, NODE_UNOBSERVED, NODE_UNATTRIBUTED),
    *(RUN_CHARGED_ENERGY, RUN_CHARGED_EMISSIONS),
    *(RUN_METER_ENERGY, RUN_METER_COVERED, RUN_METER_UNOBSERVED),
    UNCERTAINTY,
    ANOMALIES,
    GRID_INTENSITY,
    GRID_TIMESTAMP,
    GRID_ERRORS,
    PUE,
    WUE,
    PRICE,
    SENSOR_UP,
    SENSOR_SECONDS,
    SENSOR_ERRORS,
    EXPORTER_ERRORS,
    LAST_SAMPLE,
    SAMPLE_INTERVAL,
    BUILD_INFO,
)

MACHINE = Family(
    "info",
    "carbonmon_machine_info",
    "The boot of the kernel (random(4)): monitors with the same one see the same devices. Absent if unknown.",
    ("boot_id",),
)

ENDPOINT_FAMILIES: tuple[Family, ...] = (MACHINE,)
"""What is served on /metrics beside the snapshot; not in files, on gateways or over OTLP."""

MOMENTARY: tuple[Family, ...] = (
    RUN_POWER,
    RUN_PROCESSES,
    RUN_FORECAST_ENERGY,
    RUN_FORECAST_EMISSIONS,
    RUN_FORECAST_COST,
    RUN_FORECAST_END,
    DEVICE_POWER,
    DEVICE_UTILIZATION,
    NODE_POWER,
    NODE_COVERAGE,
    GRID_INTENSITY,
    GRID_TIMESTAMP,
    PUE,
    WUE,
    PRICE,
    SENSOR_UP,
    SENSOR_SECONDS,
    LAST_SAMPLE,
    SAMPLE_INTERVAL,
)
"""What is true only at a moment, or only while somebody measures."""

PROCESS_FAMILIES: tuple[Family, ...] = (
    Family("counter", "process_cpu_seconds_total", "CPU time of the monitor, user and system."),
    Family("gauge", "process_resident_memory_bytes", "Resident memory of the monitor."),
    Family("gauge", "process_virtual_memory_bytes", "Virtual memory of the monitor."),
    Family("gauge", "process_start_time_seconds", "Unix time of the monitor's start."),
    Family("gauge", "process_open_fds", "File descriptors that the monitor holds open."),
    Family("gauge", "process_max_fds", "File descriptors that the monitor may open."),
)
"""What prometheus_client's own ProcessCollector gives, which describes nothing itself."""

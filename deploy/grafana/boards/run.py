"""The dashboard of one run: what it drew and emitted, how well that is known, and when."""

from __future__ import annotations

from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.boards import board, promql, run_details
from deploy.grafana.boards.panels import CURRENCIES, Query, dial, figure
from deploy.grafana.boards.run_queries import END, ENERGY, GRAMS, INFO, KWH, NODES, POWER, START, last, now

_AS_OF = "As of the last scrape in the time range; summary.json is exact."
_SHARE = f"(sum({last(ENERGY, promql.MEASURED)}) or 0 * sum({last(ENERGY)})) / (sum({last(ENERGY)}) > 0)"
# A run whose monitor ends with it is gone before its end is scraped: then it lasted until it was last seen.
_SEEN = f"max_over_time(timestamp({now(START)})[$__range:15s])"
_SECONDS = f"max({last(END)} or on (job, instance) {_SEEN}) - min({last(START)})"


def _bound(sign: str, bound: str) -> str:
    """The energy at one end of its range: the methods' errors are systematic and add up linearly."""
    where = "job, instance, component, method"
    ratio = promql.one(where, promql.last("carbonmon_energy_uncertainty_ratio", f'bound="{bound}"'))
    return f"sum(sum by ({where}) ({last(ENERGY)}) * on ({where}) (1 {sign} {ratio}))"


def _totals() -> list[Builder[models.Panel]]:
    return [
        figure(
            "Energy",
            "What the run drew from its devices, without PUE, measured and estimated parts together, and "
            f"the range that holds the truth by the stated uncertainty of each method. {_AS_OF}",
            "joule",
            Query(f"sum({last(ENERGY)})", "energy"),
            Query(_bound("-", "low"), "at least"),
            Query(_bound("+", "high"), "at most"),
            span=9,
        ),
        figure(
            "Measured share",
            "Part of the energy that hardware counters or power sensors measured. The rest is estimated from "
            "spec sheets (method tdp).",
            "percentunit",
            Query(_SHARE),
            span=3,
            limits=((None, "orange"), (0.9, "green")),
        ),
        figure(
            "Emissions",
            "CO2 equivalent of the energy, PUE included, each joule at the grid's intensity when it was "
            f"drawn. {_AS_OF}",
            "massg",
            Query(f"sum({last(GRAMS)})"),
            span=3,
        ),
        _cost(),
        figure(
            "Water",
            "Water that the site used for the energy, by its WUE.",
            "litre",
            Query(f"sum({last('carbonmon_run_water_liters_total')})"),
            span=3,
            unknown="no WUE",
        ),
        figure(
            "Site's meter",
            "The energy with the PUE of each node as it is now: what emissions and cost are reckoned with.",
            "kwatth",
            Query(KWH),
            span=3,
        ),
    ]


def _state() -> list[Builder[models.Panel]]:
    return [
        figure(
            "Power now",
            "Measured or estimated power of the run's part of all devices over the last sampling interval.",
            "watt",
            Query(f"sum({now(POWER)})"),
            unknown="not running",
        ),
        figure(
            "Duration",
            "From the run's start to its end; without a known end to when it was last scraped.",
            "dtdurations",
            Query(_SECONDS),
        ),
        dial(
            "Progress",
            "Steps done of all steps, as the training code reports them.",
            Query(f"max({last('carbonmon_run_progress_ratio')})"),
            unknown="not reported",
        ),
        figure(
            "CPU time",
            "CPU seconds that the run's processes used.",
            "s",
            Query(f"sum({last('carbonmon_run_cpu_seconds_total')})"),
        ),
        figure(
            "Unobserved time",
            "Seconds for which a device's energy could not be known, over all devices. None was invented for "
            "them: the energy is too low by what was drawn then.",
            "s",
            Query(f"sum({last('carbonmon_run_unobserved_seconds_total')})"),
            limits=((None, "green"), (1.0, "orange")),
        ),
        figure(
            "Of its nodes",
            "The run's energy as a part of what all metered devices of its nodes drew while it lasted.",
            "percentunit",
            Query(f"sum({last(ENERGY)}) / (sum({last(NODES)}) > 0)"),
        ),
    ]


def _work() -> list[Builder[models.Panel]]:
    of_start = "The run's start and end are in it; summary.json has the figure without them."
    return [
        figure(
            "Energy a step",
            f"All the run's energy by the steps that the training code reports. {of_start}",
            "joule",
            Query(f"sum({last(ENERGY)}) / (max({last('carbonmon_run_steps_total')}) > 0)"),
            span=6,
            unknown="not reported",
        ),
        figure(
            "Energy a token",
            f"All the run's energy by the tokens that the training code reports. {of_start}",
            "joule",
            Query(f"sum({last(ENERGY)}) / (max({last('carbonmon_run_tokens_total')}) > 0)"),
            span=6,
            unknown="not reported",
        ),
        figure(
            "FLOPs a joule",
            "Floating-point operations that the training code reports, by all the run's energy.",
            "si:FLOP/J",
            Query(f"max({last('carbonmon_run_flops_total')}) / (sum({last(ENERGY)}) > 0)"),
            span=6,
            unknown="not reported",
        ),
        figure(
            "GPUs held and idle",
            "Part of the run's GPU time, where the utilisation is known, in which the GPU did nothing.",
            "percentunit",
            Query(
                f"""sum({last("carbonmon_run_gpu_seconds_total", 'state="idle"')})"""
                f""" / (sum({last("carbonmon_run_gpu_seconds_total", 'state!="unknown"')}) > 0)"""
            ),
            span=6,
            limits=((None, "green"), (0.1, "orange")),
            unknown="no GPU",
        ),
    ]


def _cost() -> stat.Panel:
    panel = figure(
        "Cost",
        "What the energy cost, PUE included, each joule at the price in force when it was drawn.",
        "none",
        Query(f"sum by (currency) ({last('carbonmon_run_cost')})", "{{currency}}"),
        span=3,
        unknown="no price",
    )
    for code in CURRENCIES:
        panel.override_by_name(code, [models.DynamicConfigValue("unit", f"currency{code}")])
    return panel


def dashboard() -> models.Dashboard:
    """The dashboard."""
    named = f'label_join(max by (run_id, name) ({promql.last(INFO)}), "run", " · ", "run_id", "name")'
    run = board.result_of(
        named,
        '/run="(?<text>[^"]*)|run_id="(?<value>[^"]*)/g',
        "run_id",
        "Run",
        "Runs that were scraped within the time range: id and name.",
    )
    return board.build(
        "carbonmon-run",
        "carbonmon / run",
        "One run: energy, emissions and cost, with what is measured and what is estimated.",
        "6h",
        [run],
        [
            ("The run", [*_totals(), *_state(), *_work()]),
            ("Power and energy", run_details.power()),
            ("Carbon", run_details.carbon()),
            ("Phases and processes", run_details.phases()),
        ],
    )

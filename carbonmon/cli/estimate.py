"""`carbonmon estimate`: energy and carbon of a job from spec sheets, before it runs or long after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonmon import __version__
from carbonmon.cli import options, printing
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import JOULES_PER_KWH, MAIN_PHASE

if TYPE_CHECKING:
    from carbonmon.analysis.estimate.fit import Fit
    from carbonmon.analysis.estimate.loads import Load
    from carbonmon.analysis.estimate.parts import Part

_SHARED = ("region", "intensity", "pue", "wue", "price", "currency", "output", "log-level", "log-format")
_CHOICES = ("region", "pue", "wue", "currency")


@click.command("estimate")
@click.option(
    "--gpu", "gpus", multiple=True, metavar="NAME[:COUNT]", help="A GPU model and how many; may be repeated."
)
@click.option("--gpu-utilization", metavar="RATIO", help="Of the GPUs, 0 to 1; 1 is assumed without it.")
@click.option("--gpu-tdp", "gpu_tdp_w", metavar="W", help="TDP of one GPU, in place of the table's.")
@click.option(
    "--cpu", "cpus", multiple=True, metavar="NAME[:COUNT]", help="A CPU model and how many packages of it."
)
@click.option("--cpu-utilization", metavar="RATIO", help="Of the CPUs, 0 to 1; 1 is assumed without it.")
@click.option("--cpu-tdp", "cpu_tdp_w", metavar="W", help="TDP of one CPU package, in place of the table's.")
@click.option("--memory-gb", metavar="GB", help="Installed memory.")
@click.option("--hours", metavar="HOURS", help="For how long all of it works.")
@click.option("--fit", metavar="RUN", help="The mean powers of an earlier run in place of TDP × utilisation.")
@click.option("--embodied", is_flag=True, help="The job's part of making the hardware, as a range.")
@printing.format_option("text", "json")
@click.argument("parts", required=False, metavar="[PARTS.toml]", type=options.PATH)
@options.with_options(*_SHARED)
def command(parts: Path | None, fit: str | None, embodied: bool, form: str, **values: Any) -> None:
    """Estimate energy and carbon from spec sheets: P = Σ count × TDP × utilisation, E = P × hours.

    Needs no hardware and reads none. Several parts, say training and inference, are [[part]] tables of a
    TOML file with these options as keys.
    """
    options.set_up_log(values["log_level"], values["log_format"])
    values = options.without_weaker(values)
    try:
        text = _estimate(parts, fit, embodied, form, values)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    printing.show(text)


def _estimate(path: Path | None, fit: str | None, embodied: bool, form: str, values: dict[str, Any]) -> str:
    from carbonmon.analysis.estimate.loads import loads_of
    from carbonmon.analysis.estimate.records import snapshot_of
    from carbonmon.runs.summary.document import summarize
    from carbonmon.service.open_grid import open_overheads, open_provider

    if values["region"] is not None and values["intensity"] is not None:
        raise ConfigError("--region and --intensity exclude one another: give the place or the figure")
    config = Config(
        intensity_g_per_kwh=values["intensity"],
        price_per_kwh=values["price"],
        **{name: values[name] for name in _CHOICES},
    )
    overheads = open_overheads(config)
    parts = _parts(path, values)
    fitted = None if fit is None else _fit(fit, values["output"])
    loads = [load for part in parts for load in loads_of(part, fitted)]
    provider = open_provider(config)
    try:
        intensity = provider.intensity_at(time.time())
    finally:
        provider.close()
    snapshot = snapshot_of(loads, intensity, overheads, __version__, "" if path is None else path.stem)
    summary = summarize(snapshot, snapshot.runs[0], "estimated")
    if embodied:
        summary["embodied"] = _embodied(loads)
    if form == "text":
        return _text(summary, loads)
    return printing.json_text(summary)


def _fit(run: str, output: Path) -> Fit:
    from carbonmon.analysis.estimate.fit import fit_of
    from carbonmon.runs.summaries import find

    try:
        return fit_of(find(run, output))
    except ConfigError as error:
        raise ConfigError(f"--fit: {str(error).removeprefix('report: ')}") from None


def _parts(path: Path | None, values: dict[str, Any]) -> Sequence[Part]:
    """The parts of the file, or the one of the command line."""
    from carbonmon.analysis.estimate.parts import part_of, read_parts

    given = {
        "gpu": values["gpus"] or None,
        "gpu-utilization": values["gpu_utilization"],
        "gpu-tdp": values["gpu_tdp_w"],
        "cpu": values["cpus"] or None,
        "cpu-utilization": values["cpu_utilization"],
        "cpu-tdp": values["cpu_tdp_w"],
        "memory-gb": values["memory_gb"],
        "hours": values["hours"],
    }
    if path is None:
        return (part_of(given),)
    stray = next((key for key, value in given.items() if value is not None), None)
    if stray is not None:
        raise ConfigError(f"--{stray}: the parts are in {path}: give it there, or the part without a file")
    return read_parts(path)


def _embodied(loads: Sequence[Load]) -> dict[str, Any]:
    from carbonmon.analysis.embodied import Hardware, document, embodied_range

    hardware = [Hardware(load.component, load.name, load.number, load.hours, load.part) for load in loads]
    return document(embodied_range(hardware))


def _text(summary: dict[str, Any], loads: Sequence[Load]) -> str:
    from carbonmon.runs.report.details import details_text, labelled
    from carbonmon.runs.summary.text import table_text

    lines: list[str] = []
    for part, group in groupby(loads, key=lambda load: load.part):
        lines += _part_lines(part, list(group))
    carbon = summary["carbon"]
    if carbon["pue_source"] is None:
        lines += labelled("PUE", "none was applied; --pue gives a data centre's overhead on emissions")
    else:
        lines += labelled("PUE", f"{carbon['pue']:g}, by {carbon['pue_source']}")
    inputs = "".join(f"{line}\n" for line in lines)
    return table_text(summary) + inputs + details_text(summary)


def _part_lines(part: str, loads: Sequence[Load]) -> list[str]:
    """The power, time and energy of a part, and below it what each model adds, with the source."""
    from carbonmon.analysis.estimate.loads import number_text
    from carbonmon.runs.report.details import labelled

    kw = sum(load.power_w for load in loads) / 1000.0
    kwh = sum(load.energy_j for load in loads) / JOULES_PER_KWH
    name = "" if part == MAIN_PHASE else f"{part}: "
    lines = labelled(
        "part", f"{name}{number_text(kw)} kW × {number_text(loads[0].hours)} h = {number_text(kwh)} kWh"
    )
    for load in loads:
        lines += labelled("", f"{load.formula}: {load.name}; {load.spec.source}")
    return lines

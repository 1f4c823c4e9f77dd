"""`carbonmon estimate`: energy and carbon of a job from spec sheets, before it runs or long after."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbonmon import __version__
from carbonmon.cli import options, printing, terminal
from carbonmon.cli.log import set_up_log
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import JOULES_PER_KWH, MAIN_PHASE

if TYPE_CHECKING:
    from carbonmon.analysis.estimate.fit import Fit
    from carbonmon.analysis.estimate.load import Load
    from carbonmon.analysis.estimate.parts import Part
    from carbonmon.analysis.estimate.records import Place

_SHARED = ("region", "intensity", "pue", "wue", "price", "currency", "output", "log-level", "log-format")
_CHOICES = ("region", "pue", "wue", "currency")


@click.command("estimate")
@click.option(
    "--gpu", "gpu", multiple=True, metavar="NAME[:COUNT]", help="A GPU model and how many; may be repeated."
)
@click.option("--gpu-hours", metavar="HOURS", help="Hours of all GPUs together: 184320 or 1.3M.")
@click.option("--gpu-utilization", metavar="RATIO", help="Of the GPUs, 0 to 1; 1 is assumed without it.")
@click.option("--gpu-tdp", metavar="W", help="TDP of one GPU, in place of the table's.")
@click.option("--gpu-idle", metavar="W", help="What one idle GPU draws, for --idle-share.")
@click.option(
    "--cpu", "cpu", multiple=True, metavar="NAME[:COUNT]", help="A CPU model and how many packages of it."
)
@click.option("--cpu-utilization", metavar="RATIO", help="Of the CPUs, 0 to 1; 1 is assumed without it.")
@click.option("--cpu-tdp", metavar="W", help="TDP of one CPU package, in place of the table's.")
@click.option("--cpu-cores", metavar="N", help="Cores of the CPU that the job has, where it has not all.")
@click.option("--memory-gb", metavar="GB", help="Installed memory.")
@click.option("--hours", metavar="HOURS", help="For how long all of it works.")
@click.option("--energy", metavar="ENERGY", help="The energy of all devices where it is known: 433MWh.")
@click.option("--power", metavar="POWER", help="The mean power of all devices together: 1415.78W.")
@click.option("--host-power", metavar="POWER", help="Of all hosts, what is not their GPUs.")
@click.option("--idle-share", metavar="RATIO", help="The share of the time in which the hardware is idle.")
@click.option("--attempts", metavar="N", help="How many times all of it happened; failed runs count.")
@click.option("--parameters", metavar="N", help="Of a model that is trained: 7B.")
@click.option("--tokens", metavar="N", help="That it is trained on: 2T. FLOPs are 6 × parameters × tokens.")
@click.option(
    "--flops", metavar="N", help="The training's FLOPs, in place of parameters and tokens: 3.14e23."
)
@click.option("--batch", metavar="N", help="Sequences a step (training), or queries at once (inference).")
@click.option("--steps", metavar="N", help="With --batch and --sequence in place of the tokens: 500k.")
@click.option("--sequence", metavar="N", help="Tokens a sequence.")
@click.option("--layers", metavar="N", help="With --width and --sequence: FLOPs of attention too.")
@click.option("--width", metavar="N", help="The width of the model (d_model).")
@click.option("--mfu", metavar="RATIO", help="Model FLOPs utilisation, 0 to 1; 0.4 is assumed without it.")
@click.option("--precision", metavar="NAME", help="fp32, tf32, bf16, fp16 or fp8; default: bf16, else fp16.")
@click.option("--flops-peak", metavar="N", help="FLOP/s of one GPU, in place of the table's: 312T.")
@click.option("--queries", metavar="N", help="How many queries it serves: energy a query.")
@click.option(
    "--tokens-out", metavar="N", help="Tokens that come out of a query; with --parameters their energy."
)
@click.option(
    "--kind",
    metavar="KIND",
    help="Of job, where its utilisation is unknown: pretraining, small-training, fine-tuning, evaluation.",
)
@click.option(
    "--market-intensity",
    metavar="G_PER_KWH",
    help="Of the electricity bought: market-based emissions beside.",
)
@click.option("--water-intensity", metavar="L_PER_KWH", help="Water of generating a kWh: water off site.")
@click.option("--fit", metavar="RUN", help="The mean powers of an earlier run in place of TDP × utilisation.")
@click.option("--embodied", is_flag=True, help="The job's part of making the hardware, as a range.")
@printing.format_option("text", "json")
@click.argument("parts", required=False, metavar="[PARTS.toml]", type=options.PATH)
@options.with_options(*_SHARED)
def command(parts: Path | None, fit: str | None, embodied: bool, form: str, **values: Any) -> None:
    """Estimate energy and carbon from spec sheets: P = Σ count × TDP × utilisation, E = P × hours.

    Needs no hardware and reads none. Several parts, say training and inference, are [[part]] tables of a
    TOML file with these options as keys; a part may have its own region, intensity and pue.
    """
    set_up_log(values["log_level"], values["log_format"])
    values = options.without_weaker(values)
    try:
        text = _estimate(parts, fit, embodied, form, values)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    printing.show_form(form, text)


def _estimate(path: Path | None, fit: str | None, embodied: bool, form: str, values: dict[str, Any]) -> str:
    from carbonmon.analysis.estimate.loads import loads_of
    from carbonmon.analysis.estimate.records import snapshot_of, summary_of

    if values["region"] is not None and values["intensity"] is not None:
        raise ConfigError("--region and --intensity exclude one another: give the place or the figure")
    parts = _parts(path, values)
    home = _place(values)
    places = {part.name: _place_of(part, values) for part in parts if _has_place(part)}
    fitted = None if fit is None else _fit(fit, values["output"])
    loads = [load for part in parts for load in loads_of(part, fitted)]
    name = "" if path is None else path.stem
    snapshot = snapshot_of(loads, home.intensity, home.overheads, __version__, name, places)
    summary = summary_of(snapshot, loads)
    where = {part.name: places.get(part.name, home) for part in parts}
    uses = {part.name: part.use_in_all for part in parts if part.use_in_all is not None}
    has_beside = any(place.has_beside for place in where.values()) or bool(uses)
    if has_beside:
        from carbonmon.analysis.estimate.beside import add_beside

        add_beside(summary, loads, where, uses)
    if embodied:
        summary["embodied"] = _embodied(loads)
    if form == "text":
        return _text(summary, loads, has_beside)
    return printing.json_text(summary)


def _place(values: dict[str, Any]) -> Place:
    """The intensity, the PUE and the rest of the options of a place."""
    from carbonmon.analysis.estimate.part_values import intensity_at, water_intensity_at
    from carbonmon.analysis.estimate.records import Place
    from carbonmon.service.open_grid import open_overheads, open_provider

    config = Config(
        intensity_g_per_kwh=values["intensity"],
        price_per_kwh=values["price"],
        **{name: values[name] for name in _CHOICES},
    )
    overheads = open_overheads(config)
    provider = open_provider(config)
    try:
        return Place(
            provider.intensity_at(time.time()),
            overheads,
            intensity_at(_hyphened(values), "", "market-intensity"),
            water_intensity_at(_hyphened(values), ""),
        )
    finally:
        provider.close()


def _place_of(part: Part, values: dict[str, Any]) -> Place:
    try:
        return _place(_own(values, part))
    except ConfigError as error:
        raise ConfigError(f"{part.where}: {error}" if part.where else str(error)) from None


def _has_place(part: Part) -> bool:
    own = part.region, part.intensity, part.pue, part.market_intensity, part.water_intensity
    return any(value is not None for value in own)


def _hyphened(values: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in values.items()}


def _own(values: dict[str, Any], part: Part) -> dict[str, Any]:
    """The options with the part's own place."""
    own = dict(values)
    if part.region is not None or part.intensity is not None:
        own.update(region=part.region, intensity=part.intensity)
    if part.pue is not None:
        own.update(pue=part.pue)
    if part.market_intensity is not None:
        own.update(market_intensity=part.market_intensity)
    if part.water_intensity is not None:
        own.update(water_intensity=part.water_intensity)
    return own


def _fit(run: str, output: Path) -> Fit:
    from carbonmon.analysis.estimate.fit import fit_of
    from carbonmon.runs.summaries import find

    try:
        return fit_of(find(run, output).summary)
    except ConfigError as error:
        raise ConfigError(f"--fit: {str(error).removeprefix('report: ')}") from None


def _parts(path: Path | None, values: dict[str, Any]) -> Sequence[Part]:
    """The parts of the file, or the one of the command line."""
    from carbonmon.analysis.estimate.parts import OPTIONS, split_parts

    given = {name: values[name.replace("-", "_")] for name in OPTIONS}
    given.update(gpu=values["gpu"] or None, cpu=values["cpu"] or None)
    if path is None:
        return split_parts(given)
    from carbonmon.analysis.estimate.part_tables import read_parts

    stray = next((key for key, value in given.items() if value is not None), None)
    if stray is not None:
        raise ConfigError(f"--{stray}: the parts are in {path}: give it there, or the part without a file")
    return read_parts(path)


def _embodied(loads: Sequence[Load]) -> dict[str, Any]:
    from carbonmon.analysis.embodied import Hardware, document, embodied_range

    hardware = [
        Hardware(
            *(load.component, load.name, load.number),
            None if load.hours is None else load.hours * load.share_ratio,
            load.part,
        )
        for load in loads
    ]
    return document(embodied_range(hardware))


def _text(summary: dict[str, Any], loads: Sequence[Load], has_beside: bool) -> str:
    from carbonmon.core.text_layout import labelled
    from carbonmon.runs.report.details import details_text
    from carbonmon.runs.summary.text import table_text

    width = terminal.width()
    texts: list[tuple[str, str]] = []
    if has_beside:
        from carbonmon.analysis.estimate.beside import beside_texts

        texts = beside_texts(summary)
    for part, group in groupby(loads, key=lambda load: load.part):
        texts += _part_texts(part, list(group))
    carbon = summary["carbon"]
    if carbon["pue_source"] is None:
        texts.append(("PUE", "none was applied; --pue gives a data centre's overhead on emissions"))
    else:
        texts.append(("PUE", f"{carbon['pue']:g}, by {carbon['pue_source']}"))
    inputs = "".join(f"{line}\n" for label, text in texts for line in labelled(label, text, width))
    return table_text(summary, width) + inputs + details_text(summary, width)


def _part_texts(part: str, loads: Sequence[Load]) -> list[tuple[str, str]]:
    """Labels and texts: power, time and energy of a part, and below what each model adds, with the source."""
    from carbonmon.analysis.estimate.figures import number_text
    from carbonmon.analysis.estimate.records import hours_text

    kwh = sum(load.energy_j for load in loads) / JOULES_PER_KWH
    name = "" if part == MAIN_PHASE else f"{part}: "
    product = ""
    if loads[0].hours is not None:
        kw = sum(load.power_w or 0.0 for load in loads) / 1000.0
        product = f"{number_text(kw)} kW × {hours_text(loads[0])} = "
    texts = [("part", f"{name}{product}{number_text(kwh)} kWh")]
    texts += [("", f"{load.formula}: {load.name}; {load.source}") for load in loads]
    return [*texts, ("", loads[0].note)]

"""The kinds of panels: a figure, lines, bars, a dial and a table, each with its unit and an explanation."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import NamedTuple, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, gauge, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

from deploy.grafana.boards.board import DATASOURCE

GRAMS_PER_KWH, GRAMS_PER_HOUR = "suffix:g/kWh", "si:g/h"
"""Units that Grafana has no name for; `si:` adds k and m in front."""

CURRENCIES = (
    "EUR",
    "USD",
    "GBP",
    "CHF",
    "SEK",
    "NOK",
    "DKK",
    "PLN",
    "CZK",
    "JPY",
    "INR",
    "BRL",
    "ZAR",
    "KRW",
)
"""Codes for which Grafana has a unit; other prices are shown as a number beside their code."""

MEASURED, ESTIMATED = "green", "orange"
UP = {"1": ("up", "green"), "0": ("down", "red")}
VALUE, NAME, BOTH = (
    common_models.BigValueTextMode.VALUE,
    common_models.BigValueTextMode.NAME,
    common_models.BigValueTextMode.VALUE_AND_NAME,
)

Panel = TypeVar("Panel", stat.Panel, timeseries.Panel, bargauge.Panel, gauge.Panel, table.Panel)


class Query(NamedTuple):
    """A query and the legend of its series."""

    expr: str
    legend: str = ""


class Column(NamedTuple):
    """A column of a table: a label, or `Value #A` of the first query; with what it is called and how shown.

    `words` replace values: {"1": ("up", "green")}.
    """

    field: str
    name: str
    unit: str = ""
    link: str = ""
    words: dict[str, tuple[str, str]] | None = None


def figure(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    span: int = 4,
    limits: Sequence[tuple[float | None, str]] = ((None, "text"),),
    words: dict[str, tuple[str, str]] | None = None,
    unknown: str = "unknown",
    shown: common_models.BigValueTextMode | None = None,
) -> stat.Panel:
    """One figure a series, as of the end of the time range; `limits` are colours from a value on."""
    panel = (
        _dressed(stat.Panel(), title, about, unit, queries, span, 4, instant=True)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .text_mode(shown or (BOTH if queries[0].legend else VALUE))
        .thresholds(_limits(_of_known(limits)))
        .no_value(unknown)
    )
    if words:
        panel.mappings([_mapping(words)])
    return panel


def chart(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    span: int = 12,
    stacked: bool = False,
    soft_max: float | None = None,
) -> timeseries.Panel:
    """Lines over time, or areas that add up; the axis reaches to `soft_max` at least.

    Without that Grafana draws a constant 0 on an axis to 100, and a constant 100 % on one to 200 %.
    """
    panel = (
        _dressed(timeseries.Panel(), title, about, unit, queries, span, 8, instant=False)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .axis_soft_min(0)
        .line_width(1)
        .fill_opacity(40 if stacked else 10)
        .show_points(common_models.VisibilityMode.AUTO)
    )
    if soft_max is not None:
        panel.axis_soft_max(soft_max)
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    return panel


def by_method(panel: Panel) -> Panel:
    """Colour the series whose name ends with a method: nothing estimated looks measured."""
    for pattern, colour in (("/(counter|power)$/", MEASURED), ("/tdp$/", ESTIMATED)):
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_regexp(pattern, [models.DynamicConfigValue("color", fixed)])
    return panel


def bars(title: str, about: str, unit: str, *queries: Query, span: int = 12) -> bargauge.Panel:
    """A bar a series, as of the end of the time range."""
    return (
        _dressed(bargauge.Panel(), title, about, unit, queries, span, 8, instant=True)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .thresholds(_limits(((None, "blue"),)))
        .min(0)
    )


def dial(title: str, about: str, *queries: Query, span: int = 4, unknown: str = "unknown") -> gauge.Panel:
    """A ratio from 0 to 1 as a dial."""
    return (
        _dressed(gauge.Panel(), title, about, "percentunit", queries, span, 4, instant=True)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_limits(((None, "blue"),)))
        .min(0)
        .max(1)
        .no_value(unknown)
    )


def listing(
    title: str,
    about: str,
    columns: Sequence[Column],
    *queries: str,
    span: int = 12,
    height: int = 8,
    order: str = "",
    rising: bool = False,
    limit: int = 0,
    unit: str = "short",
    hidden: Sequence[str] = (),
) -> table.Panel:
    """The newest values as a table: the queries' rows are put together where their common labels agree."""
    panel = _dressed(table.Panel(), title, about, unit, [Query(each) for each in queries], span, height, True)
    panel.cell_height(common_models.TableCellHeight.SM)
    if len(queries) > 1:
        panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    organize = {
        "excludeByName": dict.fromkeys(("Time", "__name__", *hidden), True),
        "indexByName": {column.field: place for place, column in enumerate(columns)},
        "renameByName": {column.field: column.name for column in columns},
    }
    panel.with_transformation(models.DataTransformerConfig("organize", options=organize))
    if order:
        by = {"fields": {}, "sort": [{"field": order, "desc": not rising}]}
        panel.with_transformation(models.DataTransformerConfig("sortBy", options=by))
    if limit:
        panel.with_transformation(models.DataTransformerConfig("limit", options={"limitField": limit}))
    for column in columns:
        _shape(panel, column)
    return panel


def _shape(panel: table.Panel, column: Column) -> None:
    properties = []
    if column.unit:
        properties.append(models.DynamicConfigValue("unit", column.unit))
    if column.link:
        link = {"title": f"Open {column.name.lower()}", "url": column.link}
        properties.append(models.DynamicConfigValue("links", [link]))
    if column.words:
        properties.append(models.DynamicConfigValue("mappings", [_mapping(column.words)]))
        properties.append(models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    if properties:
        panel.override_by_name(column.name, properties)


def _dressed(
    panel: Panel,
    title: str,
    about: str,
    unit: str,
    queries: Sequence[Query],
    span: int,
    height: int,
    instant: bool,
) -> Panel:
    panel.title(title).description(about).datasource(DATASOURCE).unit(unit).span(span).height(height)
    form = PromQueryFormat.TABLE if isinstance(panel, table.Panel) else PromQueryFormat.TIME_SERIES
    for letter, (expr, legend) in zip(ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(expr).legend_format(legend).format(form)
        target.editor_mode(QueryEditorMode.CODE).datasource(DATASOURCE)
        panel.with_target(target.instant() if instant else target.range())
    return panel


def _of_known(steps: Sequence[tuple[float | None, str]]) -> Sequence[tuple[float | None, str]]:
    """The colours from 0 on: Grafana gives the first one to what is unknown too, and that is neither."""
    (_, first), *others = steps
    return ((None, "text"), (0.0, first), *others) if first != "text" else steps


def _limits(steps: Sequence[tuple[float | None, str]]) -> builders.ThresholdsConfig:
    thresholds = [models.Threshold(value, colour) for value, colour in steps]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(thresholds)


def _mapping(words: dict[str, tuple[str, str]]) -> models.ValueMap:
    results = enumerate(words.items())
    return models.ValueMap(
        {value: models.ValueMappingResult(text, colour, index=i) for i, (value, (text, colour)) in results}
    )

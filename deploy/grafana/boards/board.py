"""What all dashboards have in common: the source of data as a variable, links, and the form of the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "carbonmon"
_LABEL_VALUES, _QUERY_RESULT = 1, 3
"""Kinds of a variable's query, as Grafana's Prometheus source numbers them."""

Variable = Builder[models.VariableModel]
Section = tuple[str, Sequence[Builder[models.Panel]]]
"""A row's title and its panels, whose widths fill lines of 24."""


def build(
    uid: str, title: str, about: str, span: str, variables: Iterable[Variable], sections: Iterable[Section]
) -> models.Dashboard:
    """A dashboard of the last `span` (6h), its panels numbered in their order."""
    board = (
        builders.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .editable()
        .time(f"now-{span}", "now")
        .timezone("browser")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("carbonmon")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
        )
        .with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for variable in variables:
        board.with_variable(variable)
    for name, panels in sections:
        board.with_row(builders.Row(name))
        for panel in panels:
            board.with_panel(panel)
    found = board.annotations([]).build()
    for number, each in enumerate(found.panels or (), start=1):
        each.id_val = number
    return found


def values_of(label: str, metric: str, name: str, title: str, about: str) -> Variable:
    """A variable that is one of the values of a label within the time range."""
    variable = _query(name, title, about, _LABEL_VALUES, f"label_values({metric}, {label})")
    return variable.sort(models.VariableSort.ALPHABETICAL_ASC)


def result_of(query: str, regex: str, name: str, title: str, about: str) -> Variable:
    """A variable that is one of the series of a query; the groups `text` and `value` pick from it."""
    variable = _query(name, title, about, _QUERY_RESULT, f"query_result({query})")
    return variable.regex(regex).sort(models.VariableSort.ALPHABETICAL_DESC)


def text_of(default: str, name: str, title: str, about: str) -> Variable:
    """A variable that the reader types."""
    variable = builders.TextBoxVariable(name).label(title).description(about).default_value(default)
    return variable.current(models.VariableOption(True, default, default))


def _query(name: str, title: str, about: str, kind: int, query: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(title)
        .description(about)
        .datasource(DATASOURCE)
        .query({"qryType": kind, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def as_json(dashboard: models.Dashboard) -> str:
    """The text of a dashboard's file."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, ensure_ascii=False, sort_keys=True) + "\n"

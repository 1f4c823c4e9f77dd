"""The dashboards are what the code makes, ask only for what there is, and say what they show."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from carbonmon.core.metrics import ENDPOINT_FAMILIES, FAMILIES, PROCESS_FAMILIES
from deploy.grafana.boards import places
from deploy.grafana.boards.promql import labelled
from tests.support import grafana
from tests.support.grafana import BOARDS, filled, panels, queries_of_variables, targets

RULES = grafana.FOLDER.parent / "prometheus" / "carbonmon.rules.yml"
LABELS = {
    family.name: {*family.labels, "job", "instance"}
    for family in (*FAMILIES, *ENDPOINT_FAMILIES, *PROCESS_FAMILIES)
}
RECORDED = {
    rule["record"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
PROMETHEUS_OWN = {
    "up": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate", "severity", "instance", "run_id"},
}
MADE = {"place", "counted", "label", "run", "machine"}
"""Labels that the queries make themselves."""
VALUES = {
    "__range": "6h",
    "__rate_interval": "1m",
    "run_id": "a-run",
    "job": "carbonmon",
    "instance": "node1:9877",
    "label": "team",
}

every_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(what it is of, PromQL as Grafana writes it) of panels and variables."""
    for target in targets(board):
        yield str(target), target.expr
    for name, query in queries_of_variables(board).items():
        inner = re.fullmatch(r"label_values\((.+), \w+\)|query_result\((.+)\)", query)
        assert inner, query
        yield name, inner[1] or inner[2]


def parsed(expr: str) -> list[promql_parser.Expr]:
    """All nodes of a query's tree, with Grafana's variables filled in."""
    nodes: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(filled(expr, VALUES)), nodes.append)
    return nodes


@every_board
def test_what_files_and_gateways_hold_once_a_run_is_made_one_before_it_is_joined(
    board: dict[str, Any],
) -> None:
    """Two runs on one node would make a join ambiguous, and a panel an error."""
    of_nodes = "pue|wue|energy_uncertainty|device_info|grid_intensity|build_info"
    join = r"(?:\*|/) (?:on|ignoring) \([^)]*\)(?: group_left \([^)]*\))? (?:\(1 [-+] )?"
    bare = rf"(?:last_over_time\()?carbonmon_({of_nodes})"
    for name, query in queries(board):
        assert not re.search(join + bare, query), name


if sys.version_info >= (3, 11):  # grafana-foundation-sdk asks for it

    def test_the_files_are_what_the_code_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from deploy.grafana.boards.__main__ import main

        monkeypatch.setenv("CARBONMON_DATA", "package")
        main(tmp_path)
        made = {path.name: path.read_text() for path in tmp_path.iterdir()}
        there = {path.name: path.read_text() for path in (grafana.FOLDER / "dashboards").iterdir()}
        assert made.keys() == there.keys()
        stale = [name for name, text in made.items() if text != there[name]]
        assert not stale, "stale: python -m deploy.grafana.boards"

    @every_board
    def test_units_are_those_that_grafana_knows(board: dict[str, Any]) -> None:
        from grafana_foundation_sdk.models import units

        known = {unit for name, unit in vars(units).items() if isinstance(unit, str) and name[0].isupper()}
        assert {"joule", "kwatth", "massg"} <= known
        used = {panel["fieldConfig"]["defaults"]["unit"] for panel in panels(board)}
        for panel in panels(board):
            for override in panel["fieldConfig"]["overrides"]:
                used |= {each["value"] for each in override["properties"] if each["id"] == "unit"}
        assert {unit for unit in used if not re.match(r"(suffix|si):.", unit)} <= known


@every_board
def test_every_query_is_promql_and_asks_only_for_what_is_exported_or_recorded(board: dict[str, Any]) -> None:
    for what, expr in queries(board):
        for node in parsed(expr):
            if not isinstance(node, promql_parser.VectorSelector):
                continue
            assert node.name, f"{what}: a selector without a metric"
            known = LABELS.get(node.name) or PROMETHEUS_OWN.get(node.name)
            assert known or node.name in RECORDED, f"{what}: {node.name} does not exist"
            matched = {matcher.name for matcher in node.matchers.matchers}
            assert matched <= (known or set()), (
                f"{what}: {node.name} has no label {matched - (known or set())}"
            )


@every_board
def test_series_are_grouped_and_joined_by_labels_that_exist(board: dict[str, Any]) -> None:
    known = MADE.union(*LABELS.values())
    for what, expr in queries(board):
        for labels in re.findall(
            r"\b(?:by|on|group_left|ignoring|without) \(([^)]*)\)", filled(expr, VALUES)
        ):
            assert set(filter(None, labels.split(", "))) <= known, f"{what}: {labels}"


@every_board
def test_windows_are_grafanas_so_that_they_fit_the_scrapes(board: dict[str, Any]) -> None:
    for what, expr in queries(board):
        windows = set(re.findall(r"\[([^\]]*)\]", expr))
        assert windows <= {"$__rate_interval", "$__range", "$__range:15s"}, what
        assert set(re.findall(r"\brate\([^\[]*\[([^\]]*)\]", expr)) <= {"$__rate_interval"}, what


@every_board
def test_rates_are_of_series_that_lived_through_the_window_or_make_a_share(board: dict[str, Any]) -> None:
    """Prometheus divides by the window also where a series is younger, and shows too little."""
    rated = re.compile(r"\brate\(([^\[]*)\[\$__rate_interval\]\)( and \1 offset \$__rate_interval)?")
    for what, expr in queries(board):
        for found in rated.finditer(expr):
            assert found[2] or "device, method) (rate(" in expr, what
        assert not re.search(r"\bincrease\(carbonmon_run_(energy|emissions)", expr), what


@every_board
def test_every_panel_says_what_it_shows_in_which_unit_and_from_which_source(board: dict[str, Any]) -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels(board):
        name = panel["title"]
        assert panel["type"] in ("stat", "timeseries", "bargauge", "gauge", "table"), name
        assert panel["fieldConfig"]["defaults"]["unit"], name
        assert len(panel["description"]) > 15, name
        assert panel["datasource"] == source, name
        assert panel["targets"], name
        for target in panel["targets"]:
            assert target["datasource"] == source, name
            assert target["instant"] is (panel["type"] != "timeseries"), name
            assert target["format"] == ("table" if panel["type"] == "table" else "time_series"), name
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), name
        if len(panel["targets"]) > 1 and panel["type"] != "table":
            assert all(target["legendFormat"] for target in panel["targets"]), name


@every_board
def test_columns_are_labels_and_values_that_the_queries_of_a_table_have(board: dict[str, Any]) -> None:
    for panel in panels(board):
        if panel["type"] != "table":
            continue
        (organize,) = [each["options"] for each in panel["transformations"] if each["id"] == "organize"]
        several = len(panel["targets"]) > 1
        values = {f"Value #{target['refId']}" if several else "Value" for target in panel["targets"]}
        shown = {*organize["renameByName"], *organize["excludeByName"]} - {"Time", "__name__"}
        assert values <= shown, panel["title"]
        assert shown - values <= MADE.union(*LABELS.values(), PROMETHEUS_OWN["ALERTS"]), panel["title"]


@every_board
def test_panels_have_their_own_titles_numbers_and_places(board: dict[str, Any]) -> None:
    found = list(panels(board))
    assert len({panel["title"] for panel in found}) == len(found)
    numbers = [panel["id"] for panel in board["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))
    places_taken = [panel["gridPos"] for panel in board["panels"]]
    for place in places_taken:
        assert place["x"] + place["w"] <= 24
    for a, b in combinations(places_taken, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (a, b)


@every_board
def test_a_dashboard_can_be_found_edited_and_refreshed(board: dict[str, Any]) -> None:
    assert BOARDS[board["uid"]] is board, "the file has its name"
    assert board["tags"] == ["carbonmon"]
    assert board["editable"] is True
    assert board["refresh"] == "30s"
    assert board["time"]["to"] == "now"
    assert board["description"]
    assert "id" not in board, "a number of somebody's database"
    datasource, *others = board["templating"]["list"]
    assert (datasource["name"], datasource["type"], datasource["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    for variable in others:
        assert variable["label"]
        assert variable["description"]
        if variable["type"] == "query":
            assert variable["datasource"]["uid"] == "${datasource}"
            assert variable["refresh"] == 2, "runs come and go with the time range"


@every_board
def test_links_lead_to_dashboards_with_the_variables_that_they_set(board: dict[str, Any]) -> None:
    urls = re.findall(
        r'"url": "(/d/[^"]*)"', (grafana.FOLDER / f"dashboards/{board['uid']}.json").read_text()
    )
    for url in urls:
        match = re.match(r"/d/([\w-]+)\?", url)
        assert match
        there = {variable["name"] for variable in BOARDS[match[1]]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", url)) == there


@every_board
def test_every_variable_that_is_used_is_there(board: dict[str, Any]) -> None:
    defined = {variable["name"] for variable in board["templating"]["list"]}
    globals_ = {"__range", "__rate_interval"}
    for what, expr in queries(board):
        used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", expr))
        assert used <= defined | globals_, what


def test_there_is_a_dashboard_for_runs_for_nodes_and_for_all_of_them() -> None:
    assert BOARDS.keys() == {"carbonmon-run", "carbonmon-node", "carbonmon-fleet"}


def test_places_whose_figures_count_something_else_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(places.regions()) == len(places.PLACES)
    monkeypatch.setattr(places, "PLACES", ("FR", "AU-VIC"))
    with pytest.raises(ValueError, match="cannot be compared"):
        places.regions()


def test_a_text_that_would_end_a_query_s_string_is_refused() -> None:
    assert labelled("vector(1)", place="Norway") == 'label_replace(vector(1), "place", "Norway", "", "")'
    for text in ('a"b', "a$b", "a\\b"):
        with pytest.raises(ValueError, match="cannot stand in a query"):
            labelled("vector(1)", place=text)


def test_grafana_is_told_where_prometheus_and_the_dashboards_are() -> None:
    folder = grafana.FOLDER / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert re.fullmatch(r"http://[\w.]+:9090", source["url"]), "Grafana knows no default for a variable"
    config = yaml.safe_load((RULES.parent / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "carbonmon.yml").read_text())["providers"]
    assert provider["type"] == "file"
    compose = (grafana.FOLDER.parent / "docker" / "compose.yaml").read_text()
    assert f"target: {provider['options']['path']}\n" in compose


@every_board
def test_what_is_unknown_has_the_colour_of_neither_good_nor_bad(board: dict[str, Any]) -> None:
    """Grafana gives the first threshold's colour to a figure without a value."""
    figures = [panel for panel in panels(board) if panel["type"] == "stat"]
    bases = {panel["title"]: panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0] for panel in figures}
    assert {title: base for title, base in bases.items() if base != {"color": "text", "value": None}} == {}


@every_board
def test_a_unit_of_ones_own_has_no_space_of_its_own(board: dict[str, Any]) -> None:
    """Grafana puts one between the figure and a `suffix:`."""
    units = {panel["fieldConfig"]["defaults"]["unit"] for panel in panels(board)}
    assert {unit for unit in units if re.match(r"\w+: ", unit)} == set()

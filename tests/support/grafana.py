"""The dashboards in deploy/grafana as tests read them: panels, queries, and Grafana's variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))
}

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$([A-Za-z_]\w*)")


class Target(NamedTuple):
    """A query of a panel."""

    board: str
    panel: str
    ref: str
    expr: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.board} / {self.panel} / {self.ref}"


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard without its rows."""
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from panel.get("panels", ())


def targets(board: Mapping[str, Any]) -> list[Target]:
    """All queries of all panels."""
    return [
        Target(board["uid"], panel["title"], target["refId"], target["expr"], target["instant"])
        for panel in panels(board)
        for target in panel["targets"]
    ]


def queries_of_variables(board: Mapping[str, Any]) -> dict[str, str]:
    """The queries by which Prometheus fills variables, by their names."""
    variables = board["templating"]["list"]
    return {each["name"]: each["query"]["query"] for each in variables if each["type"] == "query"}


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with all variables replaced; fails for one without a value. `$1` is no variable."""
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], text)

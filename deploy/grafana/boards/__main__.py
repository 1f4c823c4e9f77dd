"""Writes the dashboards from the top of a checkout: `python -m deploy.grafana.boards [FOLDER]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"


def main(folder: Path = FOLDER) -> None:
    """Write one file a dashboard."""
    os.environ["CARBONMON_DATA"] = "package"  # the bundled tables, not what a developer has at home
    from deploy.grafana.boards import fleet, node, run
    from deploy.grafana.boards.board import as_json

    folder.mkdir(parents=True, exist_ok=True)
    for module in (run, node, fleet):
        dashboard = module.dashboard()
        (folder / f"{dashboard.uid}.json").write_text(as_json(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))

"""Draws the dashboards with Grafana's own components, for somebody who looks at them: build/panels/*.png.

python -m tests.panels

A Prometheus scrapes a run and a daemon on simulated hardware; its answers to all queries are drawn by
@grafana/ui and @grafana/data (Apache 2.0), which are fetched from npm into build/panels and bundled there. It
is not Grafana: no dials, no menus, links and tooltips, and none of its global style.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.e2e import test_grafana
from tests.support import grafana
from tests.support.browser import Browser, program
from tests.support.debian import BUILD

PACKAGES = ("@grafana/data@11.6.16", "@grafana/ui@11.6.16", "react@18", "react-dom@18", "esbuild@0.25")
FOLDER = BUILD / "panels"
SOURCE = Path(__file__).parent / "panels.jsx"
SPAN_S = 90.0
WIDTH = 1400
STATES = {"": "", "dark": "&dark=1", "empty": "&empty=1", "200": "&copies=200"}
STYLE, SCRIPT = '<link rel="stylesheet" href="panels.css">', '<script src="panels.js"></script>'
PAGE = f'<!doctype html>{STYLE}<div id="root"></div>{SCRIPT}'


def main() -> int:
    if program() is None or shutil.which("npm") is None:
        sys.stderr.write("no Chromium or no npm\n")
        return 1
    _bundle()
    with tempfile.TemporaryDirectory(prefix="carbonmon-panels-") as place:
        answers = _answers(Path(place) / "world")
        (FOLDER / "answers.json").write_text(json.dumps(answers))
        (FOLDER / "index.html").write_text(PAGE)
        _draw(Path(place) / "browser")
    return 0


def _bundle() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "node_modules" / "@grafana" / "ui").is_dir():
        (FOLDER / "package.json").write_text('{"private": true}')
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", *PACKAGES], cwd=FOLDER, check=True)
    shutil.copy(SOURCE, FOLDER)
    loaders = [f"--loader:.{kind}=dataurl" for kind in ("svg", "ttf", "woff2")]
    defined = ['--define:process.env.NODE_ENV="production"', "--define:global=globalThis"]
    bundled = ["--bundle", "--outfile=panels.js", "--log-level=error", *loaders, *defined]
    subprocess.run(["npx", "esbuild", SOURCE.name, *bundled], cwd=FOLDER, check=True)


def _answers(folder: Path) -> list[dict[str, Any]]:
    """What a Prometheus answers to all queries of all panels."""
    folder.mkdir()
    with test_grafana.world(folder) as here:
        time.sleep(SPAN_S + 15.0)
        panels = [(name, panel) for name, board in grafana.BOARDS.items() for panel in grafana.panels(board)]
        return [
            {
                "board": name,
                "panel": panel,
                "answers": [_answer(here, name, each) for each in panel["targets"]],
            }
            for name, panel in panels
        ]


def _answer(here: test_grafana.World, board: str, target: dict[str, Any]) -> dict[str, Any]:
    values = here.values(here.run_target if board == "carbonmon-run" else here.node_target)
    expr = grafana.filled(target["expr"], values)
    if target["instant"]:
        series = [(each["metric"], [each["value"]]) for each in here.server.query(expr)]
    else:
        series = [(each["metric"], each["values"]) for each in here.server.query_range(expr, SPAN_S, 1.0)]
    return {"ref": target["refId"], "legend": target.get("legendFormat", ""), "series": series}


def _draw(folder: Path) -> None:
    handler = functools.partial(_Quiet, directory=str(FOLDER))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Browser(folder) as browser:
        for board in grafana.BOARDS:
            for state, query in STATES.items():
                url = f"http://127.0.0.1:{server.server_port}/index.html?board={board}{query}"
                tab = browser.open(url, width=WIDTH)
                tab.wait_for("document.title === 'drawn'")
                path = FOLDER / f"{'-'.join(filter(None, (board, state)))}.png"
                tab.picture(path)
                for complaint in tab.complaints():
                    sys.stderr.write(f"{path.name}: {complaint:.300}\n")
                tab.close()
                sys.stdout.write(f"{path}\n")
    server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    sys.exit(main())

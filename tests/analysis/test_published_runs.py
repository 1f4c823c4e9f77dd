"""The documentation's table of published runs: each command gives what it says, and what was published."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from carbonmon.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "use" / "published-runs.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| run |")
]
WITHIN = 0.02
CONTRADICTIONS = {
    "GPT-3, compared": "552 t",
    "OPT, compared": "75 t",
    "OPT, with PUE": "82 t",
    "DALL·E Mini": "30.2 kg",
}
"""Publications whose own inputs do not give their emissions, and what they give."""


def figures(text: str) -> dict[str, float]:
    """`27 kWh, 11.79 kg` by unit."""
    return {unit: float(number) for number, unit in (part.split() for part in text.split(", "))}


def test_the_page_has_all_publications_with_source_year_and_evidence():
    assert len(ROWS) == len({row[0] for row in ROWS}) == 60
    assert all(len(row) == 6 and all(row) for row in ROWS)
    assert all("20" in publication for _, publication, *_ in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_published_run_comes_out_as_it_was_printed(
    row: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    run, _, _, command, published, shown = row
    printed, _, remark = shown.partition("; ")
    done = CliRunner().invoke(main, ["estimate", *shlex.split(command.strip("`")), "--format", "json"])
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    kwh, grams = summary["energy"]["facility_kwh"], summary["carbon"]["emissions_g"]
    ours = {"kWh": kwh, "MWh": kwh / 1e3, "kg": grams / 1e3, "t": grams / 1e6}
    assert {unit: ours[unit] for unit in figures(printed)} == pytest.approx(figures(printed), rel=1e-3)
    off = {unit for unit, figure in figures(published).items() if abs(ours[unit] / figure - 1) > WITHIN}
    own = CONTRADICTIONS.get(run)
    assert off == (set() if own is None else {own.split()[1]})
    assert not remark if own is None else f"are {own}" in remark

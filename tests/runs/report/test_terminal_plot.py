"""Power in a terminal: within its width, measured and estimated told apart, with the signs that it has."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.model import Method
from carbonmon.core.text_layout import columns_of
from carbonmon.runs.downsampling import Downsampler
from carbonmon.runs.layout import SERIES_FILE
from carbonmon.runs.report.over_time import OverTime, over_time
from carbonmon.runs.report.terminal_plot import ASCII, BLOCKS, ROWS, plot_text
from carbonmon.runs.series_rows import SeriesRow
from tests.support.kept_runs import kept_run, part_of
from tests.support.run_folders import carbonmon


def drawn(powers_w: list[float | None], method: Method = "counter", device: str = "GPU-1") -> OverTime:
    """A device in steps of a second; None is a gap."""
    downsampler = Downsampler()
    for second, power_w in enumerate(powers_w, 1):
        if power_w is not None:
            power = power_w, power_w, power_w, power_w
            downsampler.add(
                [SeriesRow(1.795e9 + second, 1.0, device, "gpu", "main", method, *power, 0.0, 1.0, "table")]
            )
    return OverTime(downsampler.glance(), ())


def devices(*ids: str) -> list[dict[str, Any]]:
    return [{"id": each, "component": "gpu", "index": None} for each in ids]


def columns(text: str, axis: str = "│") -> list[str]:
    """The plot, column by column, from the floor up."""
    rows = [line.partition(axis)[2] for line in text.splitlines() if axis in line]
    width = max(map(len, rows))
    return ["".join(row.ljust(width)[place] for row in reversed(rows)) for place in range(width)]


def test_a_column_is_as_high_as_its_power() -> None:
    found = columns(plot_text(drawn([100.0, 200.0, 400.0, 50.0]), devices("GPU-1"), 60))
    heights = [len(column.strip()) for column in found]
    assert [height for height, _ in itertools.groupby(heights)] == [2, 4, ROWS, 1]


def test_a_gap_is_empty_and_nothing_drawn_is_not() -> None:
    found = columns(plot_text(drawn([100.0, None, 100.0]), devices("GPU-1"), 60))
    assert any(not column.strip() for column in found)
    sparks = plot_text(drawn([100.0, 0.0, 100.0]), devices("GPU-1"), 60).splitlines()[-1]
    assert "▁" in sparks
    assert "█" in sparks


def test_what_is_estimated_has_another_sign_and_a_word() -> None:
    text = plot_text(drawn([100.0] * 5, "tdp"), devices("GPU-1"), 80)
    assert "█" not in text.partition("█ measured")[0]
    assert "░ estimated (100.0 %)" in text
    assert "100 W to 100 W, estimated" in text
    assert "░" not in plot_text(drawn([100.0] * 5), devices("GPU-1"), 80)


def test_an_estimated_part_is_drawn_as_large_as_it_is() -> None:
    def estimated_cells(estimated_w: float) -> int:
        downsampler = Downsampler()
        row = SeriesRow(1.795e9, 1.0, "a", "gpu", "main", "counter", 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, "table")
        parts = (row._replace(energy_j=400.0), row._replace(device="b", method="tdp", energy_j=estimated_w))
        downsampler.add(parts)
        text = plot_text(OverTime(downsampler.glance(), ()), devices("a", "b"), 80)
        assert f"░ estimated ({100 * estimated_w / (400 + estimated_w):.1f} %)" in text
        return columns(text)[0].count("░")

    assert estimated_cells(400.0) == ROWS // 2
    assert estimated_cells(4.0) == 0


@given(
    st.lists(st.one_of(st.none(), st.floats(0.0, 1e6)), min_size=1, max_size=400),
    st.integers(30, 250),
    st.sampled_from((BLOCKS, ASCII)),
    st.text(min_size=1, max_size=40),
)
def test_no_line_is_wider_than_the_terminal(
    powers_w: list[float | None], width: int, signs: Any, device: str
) -> None:
    text = plot_text(drawn(powers_w, device=device), devices(device), width, signs)
    assert all(columns_of(line) <= width for line in text.splitlines())
    assert all(character == "\n" or character.isprintable() for character in text)
    if signs is ASCII and device.isascii():
        assert text.isascii()


def test_many_devices_are_cut_and_counted() -> None:
    ids = [f"GPU-{number}" for number in range(30)]
    downsampler = Downsampler()
    row = SeriesRow(1.795e9, 1.0, "", "gpu", "main", "counter", 9.0, 9.0, 9.0, 9.0, 0.0, 1.0, "table")
    downsampler.add(row._replace(device=each) for each in ids)
    text = plot_text(OverTime(downsampler.glance(), ()), devices(*ids), 100)
    assert "and 6 devices more" in text


def test_a_narrow_terminal_still_says_what_is_estimated() -> None:
    for method, word in (("counter", "measured"), ("tdp", "estimated")):
        *_, line = plot_text(drawn([100.0] * 5, method), devices("GPU-1"), 50).splitlines()
        assert line.endswith(f" {word}")


def test_times_are_in_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        text = plot_text(drawn([100.0] * 5), devices("GPU-1"), 80)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert "power over time (UTC+05:30)" in text
    assert local_begin(text) == "11-18 16:36"


def local_begin(text: str) -> str:
    """What stands below the left end of the axis."""
    return next(line for line in text.splitlines() if line.lstrip().startswith("11-")).strip()[:11]


def test_no_series_is_a_sentence() -> None:
    assert plot_text(OverTime(None, ()), [], 80) == "  the series of the run has no rows\n"
    assert "not known" in plot_text(drawn([0.0]), devices("GPU-1"), 80)


def test_the_command_draws_below_the_table(tmp_path: Path) -> None:
    kept_run(tmp_path / "slurm-4242", 0.2)
    output = carbonmon("report", "last", "--output", tmp_path, "--plot").output
    assert output.index("energy") < output.index("power over time (UTC)")
    assert "│" in output
    assert "dram dram-0" in output
    plot = output[output.index("  power over time") :]
    assert max(map(len, plot.splitlines())) <= 100


def test_damaged_lines_are_told_below_the_plot(tmp_path: Path) -> None:
    run = kept_run(tmp_path / "slurm-4242", 0.2)
    with (run / SERIES_FILE).open("a") as file:
        file.write("{\n")
    part = part_of(run)
    text = plot_text(over_time([part]), part.summary["energy"]["devices"], 100)
    assert "1 damaged line of the series of node-7 left out." in text


@pytest.mark.parametrize("form", ["json", "markdown", "html", "csv", "model-card"])
def test_a_plot_is_for_the_text_only(tmp_path: Path, form: str) -> None:
    kept_run(tmp_path / "slurm-4242", 0.1)
    arguments = ("report", "last", "--output", tmp_path, "--plot", "--format", form)
    assert f"--plot is for --format text, not for {form}" in carbonmon(*arguments, code=2).output


def test_a_plot_needs_a_series_which_prometheus_has_not(tmp_path: Path) -> None:
    arguments = ("report", "--prometheus", "http://127.0.0.1:1", "--run-id", "a", "--plot")
    assert "--plot is for runs' folders" in carbonmon(*arguments, code=2).output


def test_an_html_report_is_of_one_run(tmp_path: Path) -> None:
    for number in (1, 2):
        kept_run(tmp_path / f"run-{number}", 0.05)
    runs = [tmp_path / "run-1", tmp_path / "run-2"]
    output = carbonmon("report", *runs, "--format", "html", code=2).output
    assert "--format html is a file of one run: name one, or add up its nodes with --merge" in output


def test_an_html_report_takes_other_places(tmp_path: Path) -> None:
    kept_run(tmp_path / "slurm-4242", 0.05)
    arguments = ("report", "last", "--output", tmp_path, "--format", "html", "--elsewhere", "countries")
    assert "elsewhere, at the same PUE of 1.00" in carbonmon(*arguments).output

"""Canada's rows are what the kept mix and the medians of technologies give."""

from __future__ import annotations

import pytest

from carbonmon.data import PACKAGE
from carbonmon.data.table import read_table
from tools.tables import canada


def test_each_province_has_the_figure_that_the_mix_gives() -> None:
    rows = {
        row["zone"]: row
        for row, _ in read_table(PACKAGE / "carbon_intensity.csv").records
        if row["zone_type"] == "ca_province" and row["preferred"] == "1"
    }
    made = canada.intensities()
    assert {zone: float(row["intensity_gco2eq_per_kwh"]) for zone, row in rows.items()} == made
    assert {(row["basis"], row["accounting"], row["data_year"]) for row in rows.values()} == {
        ("lifecycle", "production", "2023")
    }
    assert made["CA-QC"] == pytest.approx(
        0.921 * 24 + 0.067 * 11 + 0.007 * 230 + 0.003 * 840 + 0.002 * 490, abs=0.1
    )

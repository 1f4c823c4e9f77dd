"""What a process was told to do: of options that exclude one another those that are given nearest."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbonmon.client import choices


@pytest.mark.parametrize(
    ("arguments", "environ", "toml", "counts"),
    [
        ({}, {"CARBONMON_INTENSITY": "56"}, 'region = "FR"', {"intensity": "56"}),
        ({"region": "FR"}, {"CARBONMON_INTENSITY": "56"}, 'grid = "uk"', {"region": "FR", "grid": "uk"}),
        ({"grid": "uk"}, {"CARBONMON_INTENSITY": "56"}, 'region = "FR"', {"region": "FR", "grid": "uk"}),
        ({"region": "FR"}, {"CARBONMON_REGION": "SE"}, 'region = "DE"', {"region": "FR"}),
        ({"region": "FR"}, {"CARBONMON_GRID": "uk"}, "intensity = 56", {"region": "FR", "grid": "uk"}),
    ],
)
def test_of_choices_that_exclude_one_another_those_count_that_are_nearest(
    arguments: dict[str, object], environ: dict[str, str], toml: str, counts: dict[str, str], tmp_path: Path
):
    path = tmp_path / "carbonmon.toml"
    path.write_text(toml)
    found = choices.of_track(arguments, {**environ, "CARBONMON_CONFIG": str(path)})
    assert {choice.option.name: choice.text for choice in found} == counts

"""Which of the user's choices is in force when several places make one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from carbonmon.cli import options
from carbonmon.core.config import Config


def chosen(folder: Path, toml: str, *words: str, **environ: str) -> tuple[Result, list[Config]]:
    """What a command with all options takes from a file, the environment and its words."""
    found: list[Config] = []

    @click.command()
    @options.with_options(*options.RUN_OPTIONS)
    def command(**values: Any) -> None:
        found.append(options.to_config(values))

    path = folder / "carbonmon.toml"
    path.write_text(toml)
    result = CliRunner().invoke(command, ["--config", str(path), *words], env=environ)
    return result, found


@pytest.mark.parametrize(
    ("toml", "words", "environ", "expected"),
    [
        ('region = "FR"', ["--intensity", "56"], {}, {"region": None, "intensity_g_per_kwh": 56.0}),
        ("intensity = 56", ["--region", "FR"], {}, {"region": "FR", "intensity_g_per_kwh": None}),
        ('grid = ["uk"]', ["--intensity-file", "x"], {}, {"grid": (), "intensity_file": Path("x")}),
        ("intensity = 56", [], {"CARBONMON_GRID": "uk"}, {"grid": ("uk",), "intensity_g_per_kwh": None}),
        ("", ["--intensity", "5"], {"CARBONMON_GRID": "uk"}, {"grid": (), "intensity_g_per_kwh": 5.0}),
        ("price = 0.2", ["--price-file", "x"], {}, {"price_per_kwh": None, "price_file": Path("x")}),
        # What does not count itself takes the place of nothing.
        (
            'intensity-file = "x"',
            ["--region", "FR"],
            {"CARBONMON_INTENSITY": "56"},
            {"region": "FR", "intensity_g_per_kwh": None, "intensity_file": Path("x")},
        ),
        (
            'region = "FR"',
            ["--grid", "uk"],
            {"CARBONMON_INTENSITY": "56"},
            {"region": "FR", "intensity_g_per_kwh": None, "grid": ("uk",)},
        ),
    ],
)
def test_of_choices_that_exclude_one_another_the_nearest_is_taken(
    tmp_path: Path, toml: str, words: list[str], environ: dict[str, str], expected: dict[str, Any]
) -> None:
    result, found = chosen(tmp_path, toml, *words, **environ)
    assert result.exit_code == 0, result.output
    assert {name: getattr(found[0], name) for name in expected} == expected


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("", ["--region", "FR", "--intensity", "5"]),
        ('region = "FR"\nintensity = 5', []),
        ('grid = ["uk"]\nintensity-file = "x"', []),
        ("", ["--price", "1", "--price-file", "x"]),
    ],
)
def test_of_choices_of_one_place_that_exclude_one_another_none_is_guessed(
    tmp_path: Path, toml: str, words: list[str]
) -> None:
    result, _ = chosen(tmp_path, toml, *words)
    assert result.exit_code == 2
    assert "exclude one another" in result.output


def test_the_null_device_is_a_config_without_options():
    """Slurm's hooks name it, so that no file of options of the job's folder or the user's home counts."""
    assert options.read_toml(Path("/dev/null")) == {}


def test_budgets_come_from_flags_the_environment_and_the_file(tmp_path: Path) -> None:
    for toml, words, environ in (
        ("", ["--budget", "2kWh", "--budget", "3h/day"], {}),
        ("", [], {"CARBONMON_BUDGET": "2 kWh, 3h/day"}),
        ('budget = ["2kWh", "3h/day"]', [], {}),
    ):
        result, found = chosen(tmp_path, toml, *words, **environ)
        assert result.exit_code == 0, result.output
        assert [budget.text for budget in found[0].budgets] == ["2kWh", "3h/day"]
    _, found = chosen(tmp_path, 'budget = "2kWh"\non-budget = "signal:INT"\nby = "forecast"')
    assert ([each.limit for each in found[0].budgets], found[0].by) == ([7.2e6], "forecast")
    assert found[0].on_budget.number == 2


@pytest.mark.parametrize(
    ("toml", "words", "environ", "said"),
    [
        ("", ["--budget", "2"], {}, "--budget: '2' has no unit"),
        ("", ["--budget", "5EUR"], {}, "there is no price of a kWh"),
        ('price = 0.2\ncurrency = "EUR"', ["--budget", "5kwh"], {}, "did you mean 'kWh'"),
        ('price = 0.2\ncurrency = "EUR"', ["--budget", "5USD"], {}, "give it in EUR"),
        ("", [], {"CARBONMON_BUDGET": "1kWh,2kWh/week"}, "CARBONMON_BUDGET: --budget: '2kWh/week'"),
        ("", [], {"CARBONMON_ON_BUDGET": "signal:FOO"}, "CARBONMON_ON_BUDGET: --on-budget: 'FOO'"),
        ('budget = ["nan kWh"]', [], {}, "carbonmon.toml: 'budget': --budget: 'nan kWh'"),
        ("budget = { a = 1 }", [], {}, "carbonmon.toml: 'budget' must be a text"),
        (
            'on-budget = "notify:"',
            [],
            {},
            "carbonmon.toml: 'on-budget': --on-budget: notify: lacks its command",
        ),
        ("", ["--by", "guess"], {}, "--by: 'guess' is none of total, forecast"),
    ],
)
def test_a_budget_that_is_none_is_told_with_its_place(
    tmp_path: Path, toml: str, words: list[str], environ: dict[str, str], said: str
) -> None:
    result, found = chosen(tmp_path, toml, *words, **environ)
    assert (result.exit_code, found) == (2, [])
    assert said in result.output


def test_a_file_of_the_working_folder_names_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CARBONMON_CONFIG", raising=False)
    text = 'on-budget = "notify:rm -rf /"'
    named, found = chosen(tmp_path, text)
    assert (named.exit_code, found[0].on_budget.command) == (0, ("rm", "-rf", "/"))

    @click.command()
    @options.with_options(*options.RUN_OPTIONS)
    def command(**values: Any) -> None:
        found.append(options.to_config(values))

    result = CliRunner().invoke(command, [])
    assert (result.exit_code, len(found)) == (2, 1)
    assert "which no file of the working folder may" in result.output
    (tmp_path / "carbonmon.toml").write_text('on-budget = "stop"')
    assert CliRunner().invoke(command, []).exit_code == 0

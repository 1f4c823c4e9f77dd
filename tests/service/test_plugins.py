"""Sensors, intensity providers and exporters by name: our own, a third party's, and none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from carbonmon.core.errors import ConfigError
from carbonmon.service.plugins import OWN, Group, load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_our_own_are_those_that_pyproject_registers():
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    assert project["entry-points"] == OWN


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in OWN.items() for name in names])
def test_each_of_our_own_can_be_loaded_and_is_what_its_entry_point_gives(group: Group, name: str):
    loaded = load(group, name)
    assert callable(loaded)
    (point,) = entry_points(group=group, name=name)
    assert point.load() is loaded


@pytest.mark.parametrize(
    ("group", "name", "expected"),
    [
        (
            "carbonmon.sensors",
            "nvlm",
            "--sensor: there is no 'nvlm'; did you mean nvml? there are amdsmi, dram, gaudi, hwmon",
        ),
        (
            "carbonmon.exporters",
            "csv",
            "--exporter: there is no 'csv'; there are otlp, prometheus, pushgateway, summary, textfile",
        ),
        ("carbonmon.intensity", "", "--intensity: there is no ''; there are file, fixed, live, table"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_what_there_is(group: Group, name: str, expected: str):
    with pytest.raises(ConfigError) as mistake:
        load(group, name)
    assert expected in str(mistake.value)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs a third party's package whose module has this source."""

    def install(source: str) -> None:
        (tmp_path / "wallmeter_plugin.py").write_text(source)
        folder = tmp_path / "wallmeter-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: wallmeter\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(
            "[carbonmon.sensors]\nwallmeter = wallmeter_plugin:open_sensor\nnvml = wallmeter_plugin:nvml\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "wallmeter_plugin", raising=False)

    return install


def test_a_third_party_s_sensor_is_found_by_its_entry_point(install: Callable[[str], None]):
    install("def open_sensor(settings): return 'opened'\n")
    assert load("carbonmon.sensors", "wallmeter")(None) == "opened"
    with pytest.raises(
        ConfigError,
        match=r"there are amdsmi, dram, gaudi, .*, replay, tdp, tpu, wallmeter",
    ):
        load("carbonmon.sensors", "volts")


def test_a_third_party_cannot_take_the_place_of_our_own(install: Callable[[str], None]):
    install("open_sensor = nvml = None\n")
    assert load("carbonmon.sensors", "nvml") is not None


@pytest.mark.parametrize("source", ["raise RuntimeError('broken')", "import no_such_module", "x = 1"])
def test_a_third_party_s_module_that_cannot_be_loaded_is_named(install: Callable[[str], None], source: str):
    install(source)
    with pytest.raises(ConfigError, match=r"carbonmon\.sensors: 'wallmeter' cannot be loaded: "):
        load("carbonmon.sensors", "wallmeter")

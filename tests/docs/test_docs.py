"""The documentation cannot drift: pages are made from the code, and every name that users see is on one."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import carbonmon
from carbonmon.cli import docs
from carbonmon.cli.options import RUN_OPTIONS
from carbonmon.client.part import FIGURES
from carbonmon.client.run import SNAPSHOT_FIELDS
from carbonmon.client.track import Tracking
from carbonmon.core.ports import SensorSettings
from carbonmon.grid.timefile import read_timefile, read_timeline
from carbonmon.hardware.sensors import replay
from carbonmon.service import plugins

TREE = Path(__file__).resolve().parents[2]
DOCS = TREE / "docs"
TOP = [TREE / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [
    *TOP,
    TREE / "findings" / "README.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted((TREE / "deploy").rglob("README.md")),
]
API = (DOCS / "use" / "python-api.md").read_text()
SENSOR_SECTIONS = ["Platforms", "Files and calls", "Method", "Rights", "Checks", "Limits"]


def test_the_page_of_the_command_line_is_the_one_that_the_commands_make():
    assert (TREE / "docs" / "use" / "command-line.md").read_text() == docs.page(), (
        "stale: python -m carbonmon.cli.docs > docs/use/command-line.md"
    )


def test_every_option_is_on_the_page_of_the_command_line():
    page = (TREE / "docs" / "use" / "command-line.md").read_text()
    assert [name for name in RUN_OPTIONS if f"`--{name}" not in page] == []


@pytest.mark.parametrize("name", sorted(plugins.OWN["carbonmon.sensors"]))
def test_every_sensor_is_named_in_the_readme(name: str):
    assert re.search(rf"\b{name}\b", (TREE / "README.md").read_text(), re.IGNORECASE)


@pytest.mark.parametrize("name", sorted(plugins.OWN["carbonmon.sensors"]))
def test_every_sensor_has_a_page_by_the_template(name: str):
    page = (DOCS / "use" / "sensors" / f"{name}.md").read_text()
    assert page.startswith(f"# {name}: ")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SENSOR_SECTIONS
    index = (DOCS / "use" / "sensors" / "index.md").read_text()
    assert f"| [{name}]({name}.md) |" in index
    assert f"\n{name}\n" in index, "in the table of contents"


def public_names() -> Iterator[tuple[str, str, object]]:
    """(kind of entry, how the page names it, object) of all that training code may use."""
    for name in carbonmon.__all__:
        found = getattr(carbonmon, name)
        kind = "class" if inspect.isclass(found) else "function" if callable(found) else "data"
        yield kind, name, found
    yield "class", "Tracking", Tracking
    for owner in (carbonmon.Run, carbonmon.Phase, Tracking):
        names = {*dir(owner), *vars(owner())} if owner is carbonmon.Run else dir(owner)
        for name in sorted(names):
            if not name.startswith("_"):
                found = getattr(owner, name, None)
                yield "method" if inspect.isfunction(found) else "property", name, found


def test_every_public_name_is_on_the_page_of_the_python_api_with_its_parameters():
    missing = []
    for kind, name, found in public_names():
        entry = re.search(
            rf"^:+{{py:{kind}}} {name}(?:\(([^)\n]*)\))?$(.*?)^:::", API, re.MULTILINE | re.DOTALL
        )
        if entry is None:
            missing.append(f"{kind} {name}")
        elif kind in ("function", "method"):
            parameters = [each for each in inspect.signature(found).parameters if each != "self"]
            shown = [part.partition("=")[0].strip() for part in entry[1].split(",") if part.strip(" *")]
            assert shown == parameters, name
            for field in (*(f":param {each}:" for each in parameters), ":returns:", ":raises:"):
                assert field in entry[2], f"{name} lacks {field}"
    assert missing == []


def test_every_figure_of_a_snapshot_is_on_the_page_of_the_python_api():
    table = API.split("{py:method} snapshot()")[1].split(":raises:")[0]
    rows = re.findall(r"^  \| (`.*?`) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(SNAPSHOT_FIELDS)
    assert [name for name in FIGURES if f"`{name}`" not in API] == []


def test_no_page_of_the_python_api_names_what_is_not_there():
    known = {name for _, name, _ in public_names()}
    named = re.findall(r"^:+{py:(?:class|function|method|property|data)} (\w+)", API, re.MULTILINE)
    assert set(named) <= known


@pytest.mark.parametrize("name", ["intensity.csv", "intensity.json"])
def test_the_example_of_an_intensity_file_is_one(name: str):
    found = read_timefile(TREE / "examples" / name)
    assert found.zone == "FR"
    assert {slot.end_s - slot.start_s for slot in found.timeline.slots} == {3600.0}


def test_the_example_of_a_price_file_is_one():
    prices = read_timeline(TREE / "examples" / "price.csv", unit="EUR/kWh", lowest=None, highest=1e6)
    assert min(slot.value for slot in prices.slots) < 0.0 < max(slot.value for slot in prices.slots)


def test_the_example_of_a_recording_is_one():
    sensor = replay.open_sensor(SensorSettings(argument=str(TREE / "examples" / "replay.jsonl")))
    assert [device.component for device in sensor.devices()] == ["gpu", "cpu"]
    moments = [list(sensor.read(float(second))) for second in range(4)]
    assert [len(moment) for moment in moments] == [2, 2, 2, 2]


def test_the_columns_that_the_page_of_input_files_names_are_those_that_are_read():
    from carbonmon.grid import timefile

    page = (DOCS / "use" / "input-files.md").read_text()
    for names in (timefile._STARTS, timefile._ENDS, timefile._INTENSITIES, timefile._PRICES):
        assert ", ".join(f"`{name}`" for name in names) in page
    assert set(re.findall(r"`(\w+)`", next(re.finditer(r"^\| zone \|.*$", page, re.MULTILINE))[0])) == set(
        timefile._ZONES
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path):
    links = re.findall(
        r"\]\((?!https?://|#)([^)#\s]+)", re.sub(r"```python.*?```", "", page.read_text(), flags=re.S)
    )
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_on_a_page_exists(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (TREE / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^\$ |`)make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= targets


def test_the_readme_stays_short():
    assert len((TREE / "README.md").read_text().splitlines()) <= 110


def test_every_page_outside_of_docs_is_shown_by_the_site():
    settings = (DOCS / "conf.py").read_text()
    shown = re.findall(r'^    "([\w/-]+)": "([\w./-]+)",$', settings, re.MULTILINE)
    for page, file in shown:
        assert f"({'../' * (page.count('/') + 1)}{file})" in (DOCS / f"{page}.md").read_text()
    files = {TREE / file for _, file in shown}
    assert {page for page in PAGES if DOCS not in page.parents} - files == {TREE / "README.md"}


def test_the_issue_templates_are_valid_and_ask_for_what_the_page_about_bugs_names():
    yaml = pytest.importorskip("yaml")
    folder = TREE / ".github" / "ISSUE_TEMPLATE"
    forms = {path.name: yaml.safe_load(path.read_text()) for path in folder.glob("*.yml")}
    for name in ("bug.yml", "feature.yml"):
        ids = [field["id"] for field in forms[name]["body"]]
        assert len(set(ids)) == len(ids)
    asked = json.dumps(forms["bug.yml"])
    for name in ("carbonmon doctor --json", "summary.json", "series.jsonl"):
        assert name in asked
        assert name in (DOCS / "use" / "bug-report.md").read_text()


@pytest.mark.parametrize(
    "page",
    [
        "develop/adding-a-sensor",
        "glossary",
        "use/accuracy",
        "use/measurements",
        "use/attribution",
        "use/carbon",
        "use/bug-report",
    ],
)
def test_a_newcomer_finds_it_from_the_index(page: str):
    """How to add a sensor, what a figure means, which file to send with a bug report."""
    table = (DOCS / "index.md").read_text().partition("```{toctree}")[0]
    assert f"]({page}.md)" in table

"""The documentation cannot drift: pages are made from the code, and every name that users see is on one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from carbonmon.cli import docs
from carbonmon.cli.options import RUN_OPTIONS
from carbonmon.service import plugins

TREE = Path(__file__).resolve().parents[2]
PAGES = [TREE / "README.md", TREE / "CHANGELOG.md", *sorted((TREE / "docs").glob("*.md"))]


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_on_a_page_exists(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (TREE / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^\$ |`)make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= targets


def test_the_readme_stays_short():
    assert len((TREE / "README.md").read_text().splitlines()) <= 120

"""What a person sees of a report as one file, in a real Chromium: on a screen, a phone, dark, on paper."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import axe, command
from tests.support.browser import Browser, Tab, program
from tests.support.kept_runs import kept_run
from tests.support.records import forecast

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(program() is None, reason="no Chromium, and no apt-get to fetch it"),
]

HOSTILE = "<img src=x onerror=\"document.title='owned'\"> \u202egnp.exe"
A4_PT = (594.96, 841.92)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that the command writes of a run on two nodes."""
    output = tmp_path_factory.mktemp("runs")
    for host in ("a", "b"):
        kept_run(
            output / f"slurm-4242.{host}", 3.0, (2, 1, 1), host=host, name=HOSTILE, forecasts=(forecast(),)
        )
    done = command.run(["report", "slurm-4242", "--merge", "--format", "html", "--output", "."], output)
    assert done.returncode == 0, done.stderr
    (output / "report.html").write_text(done.stdout)
    return output / "report.html"


def opened(browser: Browser, report: Path, *, width: int = 1100, dark: bool = False) -> Tab:
    tab = browser.open(report.as_uri(), width=width, height=844, dark=dark)
    tab.wait_for("document.querySelector('blockquote')")
    assert tab.complaints() == [], "its policy refuses nothing of its own"
    return tab


def test_it_is_read_without_a_script_and_names_are_text(browser: Browser, report: Path) -> None:
    tab = opened(browser, report)
    text = " ".join(tab.text().split())
    assert "<img src=x onerror=\"document.title='owned'\"> \\u202egnp.exe" in text
    assert tab.evaluate("document.title").startswith("Energy and carbon of run <img src=x")
    assert tab.evaluate("document.images.length + document.scripts.length") == 0
    assert "a/package-0" in text
    tab.close()


def test_its_plots_fill_the_width_and_tell_estimated_by_shape(browser: Browser, report: Path) -> None:
    tab = opened(browser, report)
    widths = tab.evaluate(
        "[...document.querySelectorAll('svg.chart > svg')].map(e => e.clientWidth || "
        "e.getBoundingClientRect().width)"
    )
    assert max(widths) > 900
    areas = "document.querySelectorAll('svg.chart .area.gpu').length"
    assert tab.evaluate(areas) == 1
    assert tab.evaluate("document.querySelectorAll('svg.chart > rect[mask]').length") == 2, "power, energy"
    tab.evaluate("document.querySelector('details').open = true")
    assert "kW" in tab.evaluate("document.querySelector('details').innerText")
    tab.close()


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (390, True)])
def test_it_fits_a_phone_and_the_dark_and_nothing_keeps_anybody_from_using_it(
    browser: Browser, report: Path, width: int, *, dark: bool
) -> None:
    tab = opened(browser, report, width=width, dark=dark)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    colour = "rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == colour
    assert axe.source() is None or axe.violations(tab) == []
    tab.close()


def test_on_paper_it_is_a4_and_light(browser: Browser, report: Path) -> None:
    tab = opened(browser, report, dark=True)
    printed = base64.b64decode(tab.call("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    sizes = {tuple(map(float, found.split()[2:])) for found in re.findall(rb"/MediaBox \[([^]]*)\]", printed)}
    assert [size == pytest.approx(A4_PT, abs=0.5) for size in sizes] == [True]
    tab.call("Emulation.setEmulatedMedia", {"media": "print"})
    tab.resize(703, 1000)
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("document.documentElement.scrollWidth") <= 703
    tab.close()

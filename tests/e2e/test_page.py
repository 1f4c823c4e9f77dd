"""What a person sees at `/`, in a real Chromium: at every state that a run can be in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from carbonmon_exporters.page.series import SeriesCache

from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import axe, command, page_states
from tests.support.browser import Browser, Tab, program
from tests.support.page_states import Monitor, later, served
from tests.support.records import crowd, run_info

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(program() is None, reason="no Chromium, and no apt-get to fetch it"),
]

HOSTILE = "<img src=x onerror=\"document.title='owned'\"> '\"& \u202egnp.exe \x1b[31m\x9b2J"
HAS_PLOT = "document.querySelector('svg.chart .area')"
HAS_PAST = "document.querySelector('#time')?.max > 100"
HAS_SENSORS = "document.querySelector('#sensors table')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    with page_states.served_hours_in(tmp_path) as running:
        yield running


def seen(tab: Tab) -> str:
    assert tab.complaints() == []
    return " ".join(tab.text().split())


def test_a_run_some_hours_in_is_seen_whole(browser: Browser, monitor: Monitor) -> None:
    tab = browser.open(monitor.url)
    tab.wait_for(HAS_PAST)
    text = seen(tab)
    for part in (
        *("llama-7b fine-tune", "phase train", "60.0 % of its steps", "762 W", "● measured", "◇ estimated"),
        *("360 g/kWh", "DE 2024", "Ember", "Unattributed", "sudo chmod o+r energy_uj", "timeout: 2"),
        *("Forecast, whole run", "Budget 2kWh 25.0 % spent then: warn", "Energy per token", "J a sample"),
    ):
        assert part in text
    assert not re.search(r"\d kJ(?! a (sample|step))", text), "all energies are in watt-hours"
    assert tab.evaluate("document.querySelectorAll('svg.chart text.tick').length") > 10, "hours and watts"
    assert tab.evaluate("document.querySelectorAll('svg.chart .hatched').length") == 1, "memory is estimated"
    assert tab.evaluate("document.querySelectorAll('svg.chart rect.phase-0').length") >= 1
    tab.evaluate("document.querySelector('#power-table').open = true")
    tab.wait_for("document.querySelectorAll('#power-table tbody tr').length > 20")
    columns = tab.evaluate("document.getElementById('time').max * 1")
    monitor.shown = later(monitor.shown)
    tab.wait_for(f"document.getElementById('time').max > {columns}")
    tab.evaluate("document.getElementById('time').value = 3")
    tab.evaluate("document.getElementById('time').dispatchEvent(new Event('input'))")
    assert ", outside phases" in tab.evaluate("document.getElementById('reading').textContent")
    tab.close()


def test_a_past_that_could_not_be_had_is_asked_for_again(
    browser: Browser, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = SeriesCache.of, []

    def fails_at_first(cache: SeriesCache, *arguments: Any) -> bytes:
        asked.append(arguments)
        if len(asked) == 1:
            raise OSError("as a connection that breaks")
        return answers(cache, *arguments)

    monkeypatch.setattr(SeriesCache, "of", fails_at_first)
    tab = browser.open(monitor.url)
    tab.wait_for(HAS_PAST)
    tab.close()
    assert len(asked) == 2


def test_a_range_is_in_the_unit_of_its_figure(browser: Browser, monitor: Monitor) -> None:
    tab = browser.open(monitor.url)
    script = """(async () => {
        const { figures } = await import("/page-figures.js");
        const { energyWriter } = await import("/page-text.js");
        const now = await (await fetch("/api/v1/now")).json();
        Object.assign(now.run, { emissions_g: 0.936, emissions_low_g: 0.872, emissions_high_g: 1.003 });
        return figures(now, energyWriter(1e6), false).textContent;
    })()"""
    assert "936 mg CO₂e872 mg to 1003 mg" in tab.evaluate(script)
    tab.close()


def test_a_run_that_has_just_begun_says_that_nothing_is_known(browser: Browser) -> None:
    with served(page_states.just_begun()) as running:
        tab = browser.open(running.url)
        tab.wait_for(HAS_SENSORS)
        text = seen(tab)
        assert "The monitor has taken no sample yet." in text
        assert "No power is known yet" in text
        assert "Power now unknown" in text
        assert "Energy unknown" in text
        tab.close()


def test_a_lost_sensor_is_named_with_its_cure(browser: Browser) -> None:
    with served(page_states.sensor_lost()) as running:
        tab = browser.open(running.url)
        tab.wait_for(HAS_SENSORS)
        text = seen(tab)
        assert "✕ lost the driver does not answer nvidia-smi" in text
        assert "2 of its devices not known" in text
        tab.close()


def test_a_machine_without_any_sensor_shows_sentences(browser: Browser) -> None:
    with served(page_states.no_sensor()) as running:
        tab = browser.open(running.url)
        tab.wait_for(HAS_SENSORS)
        text = seen(tab)
        assert "No device is metered here" in text
        assert "no device of it is metered" in text
        assert "0 J" not in text
        tab.close()


def test_two_hundred_runs_are_listed_and_names_are_text(browser: Browser) -> None:
    shown = crowd(200)
    named = shown.runs[0]._replace(info=run_info("slurm-0", name=HOSTILE))
    ended = shown.runs[1]._replace(ended_at_s=shown.at_s, signal=9)
    training = shown.runs[2]._replace(phase="train")
    with served(shown._replace(runs=(named, ended, training, *shown.runs[3:]))) as running:
        tab = browser.open(f"{running.url}/?run=slurm-0")
        tab.wait_for("document.querySelectorAll('#runs tbody tr').length === 200")
        text = seen(tab)
        assert "<img src=x onerror=\"document.title='owned'\"> '\"& \\u202egnp.exe \\x1b[31m\\x9b2J" in text
        assert "One of 199 running and 1 ended runs" in text
        assert "by signal 9" in text
        assert text.count("running, train") == 1
        assert "running, main" not in text, "the files' word for what is in no phase"
        assert tab.evaluate("document.images.length") == 0
        assert tab.evaluate("document.title").startswith("<img src=x")
        tab.evaluate("setTimeout(() => document.querySelector('#runs tbody tr:last-child a').click())")
        tab.wait_for("document.querySelector('#run h2') && location.search === '?run=slurm-1'")
        tab.wait_for("document.body.innerText.includes('carbonmon report slurm-1')")
        tab.close()


def test_an_ended_run_keeps_its_plot_and_names_its_report(browser: Browser, monitor: Monitor) -> None:
    (run,) = monitor.shown.runs
    ended = run._replace(ended_at_s=monitor.shown.at_s, exit_code=3)
    monitor.shown = monitor.shown._replace(runs=(ended,))
    tab = browser.open(monitor.url)
    tab.wait_for(HAS_PAST)
    text = seen(tab)
    assert "exit code 3" in text
    assert "carbonmon report slurm-4242" in text
    assert "Power now 762" not in text
    tab.close()


def test_a_monitor_that_is_gone_is_said_and_what_was_known_stays(browser: Browser) -> None:
    with served(page_states.hours_in(1, 1, 0)) as running:
        tab = browser.open(running.url)
        tab.wait_for(HAS_PLOT)
    tab.wait_for("document.body.className === 'gone'")
    text = seen(tab)
    assert "No answer: the monitor has ended with its run" in text
    assert "llama-7b fine-tune" in text
    assert "Power now" not in text
    assert re.search(r"Power at \d\d:\d\d:\d\d 500 W", text), "the last one, with its time"
    tab.close()


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (390, True)])
def test_it_fits_a_phone_and_the_dark_and_nothing_keeps_anybody_from_using_it(
    browser: Browser, monitor: Monitor, width: int, *, dark: bool
) -> None:
    (run,) = monitor.shown.runs
    other = run._replace(info=run_info("other"), ended_at_s=monitor.shown.at_s)
    monitor.shown = monitor.shown._replace(runs=(run, other))
    tab = browser.open(monitor.url, width=width, height=844, dark=dark)
    tab.wait_for(HAS_PAST)
    tab.wait_for("document.querySelector('#runs table')")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
    colour = "rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == colour
    assert axe.source() is None or axe.violations(tab) == []
    tab.close()


def test_nobody_is_asked_while_the_page_is_hidden(browser: Browser, monitor: Monitor) -> None:
    tab = browser.open(monitor.url)
    tab.wait_for(HAS_PAST)
    tab.evaluate("window.asked = 0; window.was = fetch; window.fetch = (...a) => (asked += 1, was(...a)); 0")
    look = "document.dispatchEvent(new Event('visibilitychange')); asked"
    hide = "Object.defineProperty(document, 'hidden', {{ value: {0}, configurable: true }})"
    tab.wait_for("asked > 0")
    tab.evaluate(hide.format("true"))
    before = tab.evaluate(look)
    assert tab.evaluate(look) == before
    tab.evaluate(hide.format("false"))
    tab.evaluate(look)
    tab.wait_for(f"asked > {before}")
    tab.close()


def test_the_page_of_a_real_run_shows_what_the_machine_draws(browser: Browser, tmp_path: Path) -> None:
    gpus = [Gpu(profile=Constant(300.0)), Gpu(profile=Constant(150.0))]
    with Simulator(gpus=gpus, packages=[Package(profile=Constant(100.0))]) as machine:
        options = ["--idle", "exclusive", "--sysfs", str(machine.sysfs), "--sensor", "nvml,rapl"]
        options += ["--interval", "0.2", "--checkpoint", "0.5", "--name", "real"]
        process = command.start(["run", *options, "--", "sleep", "60"], tmp_path, env=machine.environ)
        try:
            tab = browser.open(command.metrics_address(process).removesuffix("/metrics"))
            tab.wait_for(HAS_PLOT)
            tab.wait_for("/5[45]\\d W/.test(document.querySelector('#run dd').innerText)")
            tab.wait_for("document.getElementById('time').max > 1")
            text = seen(tab)
            assert "real" in text
            assert not re.search(r"\d k?Wh", text), "all energies are in joules"
            tab.close()
        finally:
            process.terminate()
            process.communicate(timeout=command.DEADLINE_S)

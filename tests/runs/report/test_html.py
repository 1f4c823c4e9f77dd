"""A report as one file: safe whatever a name is, complete whatever is missing, small however long it was."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.plain_text import plain
from carbonmon.runs.layout import SERIES_FILE, SUMMARY_FILE
from carbonmon.runs.report.details import Section
from carbonmon.runs.report.html.document import html_text
from carbonmon.runs.report.html.elements import h
from carbonmon.runs.report.merging import merged
from carbonmon.runs.report.over_time import OverTime, over_time
from carbonmon.runs.summaries import Part
from tests.support.effort import examples
from tests.support.html_parts import HtmlParts
from tests.support.kept_runs import kept_run, part_of
from tests.support.records import forecast

HOSTILE = '<img src=x onerror="alert(1)"> \'"& \u202egnp.exe \x1b[31m\x9b2J </style><script>'
SAFE = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
        "b",
    ),
    *(
        "div",
        "span",
        "dl",
        "dt",
        "dd",
        "ul",
        "li",
        "blockquote",
        "figure",
        "figcaption",
        "details",
        "summary",
    ),
    *("table", "thead", "tbody", "tr", "th", "td"),
    *("svg", "defs", "pattern", "mask", "rect", "line", "path", "text"),
}
NOTHING = OverTime(None, ())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two hours."""
    return kept_run(tmp_path_factory.mktemp("runs") / "slurm-4242", forecasts=(forecast(),))


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict[str, Any]:
    return part_of(folder).summary


def report(*parts: Part, sections: Sequence[Section] = (), **edits: Any) -> str:
    summaries = [part.summary for part in parts]
    return html_text({**merged(summaries), **edits}, summaries, over_time(parts), sections)


def read(*parts: Part, **edits: Any) -> HtmlParts:
    return HtmlParts(report(*parts, **edits))


def test_a_report_has_every_part(folder: Path) -> None:
    text = read(part_of(folder)).text
    for title in (
        *("Power over time", "By device", "Energy and emissions so far", "Carbon intensity over time"),
        *("Result", "Phases", "Devices", "How it was known", "Methods", "Carbon intensities", "Sensors"),
        *("Forecast and outcome", "Text for a paper", "energy_uj cannot be read", "Ember", "2024"),
        *("memory, estimated", "GPUs, measured", "Energy per token", "Budget 2kWh", "python train.py"),
    ):
        assert title in text
    assert "Nodes" not in text, "there is one"
    assert "Settled and live" not in text, "it is not settled"


def test_it_fetches_nothing_and_runs_nothing(folder: Path) -> None:
    found = read(part_of(folder))
    assert set(found.elements) <= SAFE
    assert not {"src", "href", "style", "onclick", "onload"} & {name for _, name, _ in found.attributes}
    assert "url(http" not in found.style
    assert "@import" not in found.style
    digest = base64.b64encode(hashlib.sha256(found.style.encode()).digest()).decode()
    (policy,) = (value for value in found.values("content") if "default-src" in value)
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


def test_every_plot_has_a_table_and_says_what_it_shows(folder: Path) -> None:
    found = read(part_of(folder))
    assert found.elements["details"] == 3, "power; energy and emissions; intensity"
    labels = [value for tag, key, value in found.attributes if (tag, key) == ("svg", "aria-label")]
    devices = len(part_of(folder).summary["energy"]["devices"])
    assert len(labels) == found.values("role").count("img") == 4 + devices + 1, "plots, devices, the bar"
    assert all(labels)


def test_what_is_estimated_has_another_shape(folder: Path) -> None:
    found = read(part_of(folder))
    fills = found.values("fill")
    assert fills.count("url(#hatch-dram)") >= 2, "the layer, and the legend"
    assert "url(#hatch-gpu)" not in fills
    origins = {(key, value) for tag, key, value in found.attributes if tag == "mask" and key in "xy"}
    assert origins == {("x", "0"), ("y", "0")}, "by default a mask begins outside, and ends within the plot"
    masks = {value.removeprefix("url(#").removesuffix(")") for value in found.values("mask")}
    assert masks <= set(found.values("id"))
    assert "edge dram estimated" in found.values("class")
    assert "◇ estimated" in found.text


def test_ids_are_unique(folder: Path) -> None:
    ids = read(part_of(folder)).values("id")
    assert len(ids) == len(set(ids)) > 4


def edited(summary: dict[str, Any], text: str) -> dict[str, Any]:
    """A summary in which each text that somebody else chose is this one."""
    run, energy, carbon = summary["run"], summary["energy"], summary["carbon"]
    device = {**energy["devices"][0], "id": text, "name": text}
    return {
        **summary,
        "run": {
            **run,
            **dict.fromkeys(("id", "name", "host", "scheduler"), text),
            "command": [text],
            "labels": {text: text},
            "notes": [text],
        },
        "energy": {**energy, "devices": [device], "phases": {text: next(iter(energy["phases"].values()))}},
        "carbon": {
            **carbon,
            "intensity": {**carbon["intensity"], "zone": text, "source": text, "note": text},
            "pue_source": text,
        },
        "costs": [
            {"currency": text, "amount": 1.0, "low_amount": None, "high_amount": None, "priced_ratio": None}
            | {"source": text}
        ],
        "monitor": {
            **summary["monitor"],
            "version": text,
            "sources": [{"sensor": text, "state": "used", "reason": text}],
        },
    }


@given(st.one_of(st.just(HOSTILE), st.text(min_size=1, max_size=40)))
@examples(60)
def test_a_name_is_text_whatever_is_in_it(summary: dict[str, Any], text: str) -> None:
    usual = HtmlParts(html_text(summary, [summary], NOTHING))
    summary = edited(summary, text)
    section = Section(text, (text, ""), ((text, text),), (text,))
    document = html_text(summary, [summary], NOTHING, [section])
    assert document.isascii()
    assert all(character == "\n" or character.isprintable() for character in document)
    found = HtmlParts(document)
    assert set(found.elements) <= SAFE
    shown = " ".join(plain(text).split())
    assert shown in found.text
    assert {name for _, name, _ in found.attributes} <= {name for _, name, _ in usual.attributes}


def test_a_phase_and_a_device_of_the_series_are_text_too(tmp_path: Path, folder: Path) -> None:
    rows = (folder / SERIES_FILE).read_text().splitlines()[:400]
    copy = tmp_path / "hostile"
    copy.mkdir()
    lines = [line.replace('"main"', '"<script>alert(1)</script>\\u202e"') for line in rows]
    (copy / SERIES_FILE).write_text("\n".join(lines) + "\n")
    found = read(Part(part_of(folder).summary, copy))
    assert "<script>alert(1)</script>\\u202e" in found.text
    assert set(found.elements) <= SAFE


def test_an_attribute_cannot_be_left() -> None:
    assert h("p", {"title": "\"><script>'"}, "a<b") == (
        '<p title="&quot;&gt;&lt;script&gt;&#x27;">a&lt;b</p>'
    )


def test_damaged_lines_are_told_and_the_rest_is_drawn(tmp_path: Path) -> None:
    run = kept_run(tmp_path / "slurm-4242", 0.5)
    lines = (run / SERIES_FILE).read_text().splitlines()
    for place in range(200, 2000):
        lines[place] = '{"at_s": "damaged"}'
    (run / SERIES_FILE).write_text("\n".join(lines) + "\n")
    found = read(part_of(run))
    assert "1800 damaged lines of the series of node-7 left out." in found.text
    assert "of the run's energy; the tables have all of it." in found.text
    assert "area gpu" in found.values("class")


@pytest.mark.parametrize("content", [b"", b"\x00\xff\n", None])
def test_no_series_is_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    run = kept_run(tmp_path / "slurm-4242", 0.1)
    (run / SERIES_FILE).unlink()
    if content is not None:
        (run / SERIES_FILE).write_bytes(content)
    found = read(part_of(run))
    assert "Nothing is known of the run over time" in found.text
    assert found.elements["details"] == 0


def test_a_summary_alone_has_no_plots_and_says_so(tmp_path: Path) -> None:
    run = kept_run(tmp_path / "slurm-4242", 0.1)
    copy = tmp_path / "copy.json"
    copy.write_bytes((run / SUMMARY_FILE).read_bytes())
    found = read(part_of(copy))
    assert "There is no folder with the series: only a summary was given." in found.text
    assert "Text for a paper" in found.text


def test_unknown_is_never_zero(summary: dict[str, Any]) -> None:
    unknown = dict.fromkeys(("total_j", "total_kwh", "low_j", "high_j", "measured_ratio"))
    energy = {**summary["energy"], **unknown, "devices": [], "components": {}}
    carbon = {**summary["carbon"], **dict.fromkeys(("emissions_g", "low_g", "high_g"))}
    found = HtmlParts(html_text({**summary, "energy": energy, "carbon": carbon}, [summary], NOTHING))
    tiles = found.text.partition("Over time")[0]
    assert "Energy unknown no sensor gave a reading" in tiles
    assert "Emissions unknown" in tiles


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("running", "The run was still active: these are its figures so far."),
        ("recovered", "The monitor was lost before the run's end"),
        ("estimated", "This is an estimate from specifications, without a measurement."),
    ],
)
def test_a_run_that_has_not_ended_says_so_first(summary: dict[str, Any], state: str, sentence: str) -> None:
    summary = {**summary, "state": state}
    assert sentence in HtmlParts(html_text(summary, [summary], NOTHING)).text[:400]


def test_nodes_are_added_up_and_their_devices_told_apart(tmp_path: Path) -> None:
    one = part_of(
        kept_run(tmp_path / "slurm-4242.a", 0.5, (1, 1, 0), host="a.cluster", forecasts=(forecast(),))
    )
    other = part_of(kept_run(tmp_path / "slurm-4242.b", 0.25, (1, 1, 0), host="b.cluster"))
    found = over_time([one, other])
    assert found.glance is not None
    assert set(found.glance.devices) >= {"a/package-0", "b/package-0"}
    drawn_j = sum(step.energy_j for steps in found.glance.devices.values() for step in steps if step)
    both_j = sum(part.summary["energy"]["total_j"] for part in (one, other))
    assert drawn_j == pytest.approx(both_j, rel=1e-6)
    assert found.notes == []
    text = read(one, other).text
    assert "Nodes node energy" in text
    assert "Forecast and outcome of a.cluster" in text
    assert text.count("Budget 2kWh") == 2, "each node has its own"
    assert "a/package-0" in text


def test_of_very_many_devices_the_largest_are_listed(summary: dict[str, Any]) -> None:
    device = summary["energy"]["devices"][0]
    many = [{**device, "id": f"GPU-{number}", "energy_j": float(number)} for number in range(2000)]
    energy = {**summary["energy"], "devices": many}
    document = html_text({**summary, "energy": energy}, [summary], NOTHING)
    assert len(document) <= 200_000
    text = HtmlParts(document).text
    assert "1750 more devices, which drew less, are left out" in text
    assert "GPU-1999" in text


def test_settled_stands_beside_live(summary: dict[str, Any]) -> None:
    carbon = summary["carbon"]
    settled = {
        "emissions_g": carbon["emissions_g"] * 0.8,
        "low_g": None,
        "high_g": None,
        "intensity": {**carbon["intensity"], "mean_g_per_kwh": 288.0, "kind": "live", "source": "RTE"},
        "covered_ratio": 0.97,
        "settled_at": "2026-11-20T10:00:00Z",
    }
    text = HtmlParts(html_text({**summary, "settled": settled}, [summary], NOTHING)).text
    assert "Emissions, settled" in text
    assert "−20.0 %" in text
    assert "known for 97.0 % of the energy" in text


def test_a_forecast_that_missed_the_outcome_says_so(folder: Path) -> None:
    text = read(part_of(folder)).text
    assert "25 % of the steps" in text
    assert "the outcome is outside of the range" in text


@pytest.mark.parametrize(("hours", "most_bytes"), [(24.0, 200_000), (720.0, 1_000_000)])
@pytest.mark.timeout(300)
def test_however_long_the_run_was_the_file_is_small(tmp_path: Path, hours: float, most_bytes: int) -> None:
    part = part_of(kept_run(tmp_path / "slurm-4242", hours, (8, 2, 2)))
    begin_s = time.process_time()
    document = report(part)
    assert time.process_time() - begin_s <= 5.0
    assert len(document) <= most_bytes

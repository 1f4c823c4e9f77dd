"""Reports that somebody requires: Annex XI, SCI, BoAmps, CodeCarbon's table, hours, a paragraph."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.analysis.embodied import of_summary
from carbonmon.analysis.required.annex_xi import annex_xi_text
from carbonmon.analysis.required.boamps import boamps_document
from carbonmon.analysis.required.codecarbon import COLUMNS, codecarbon_csv
from carbonmon.analysis.required.languages import LANGUAGES
from carbonmon.analysis.required.paragraph import paragraph
from carbonmon.analysis.required.sci import sci_document
from carbonmon.cli import main
from carbonmon.cli import report_forms as forms
from carbonmon.core.errors import ConfigError
from carbonmon.runs.report.hours import hours_of, parts_by_hour
from carbonmon.runs.summary.document import State, summarize
from carbonmon.runs.summary.file import write_summary
from tests.support.records import HOSTILE_TEXTS, device_state, gpu, node, run_info, run_state, snapshot
from tests.support.rows import for_each_row
from tests.support.run_folders import a_run
from tests.support.series import ROW
from tests.support.strictness import strict_schema

START_S = 1_795_000_000.0 // 3600 * 3600


def final(state: State = "final", pue: float = 1.2, **info: Any) -> dict[str, Any]:
    """A node of 8 A100 with work, an hour long."""
    whole = node(8, 2, 0, run_info(**info))
    run = whole.runs[0]._replace(ended_at_s=whole.at_s, facility_j=None)
    return summarize(whole._replace(runs=(run,), pue_ratio=pue), run, state)


def unseen() -> dict[str, Any]:
    return summarize(snapshot((run_state(),)), run_state(), "final")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", *arguments])


# Annex XI


def test_annex_xi_says_known_or_estimated_with_the_method_and_the_computational_resources():
    summary = final(pue=1.2)
    text = annex_xi_text(summary, "Germany (DE)")
    assert "- Status: known: measured by hardware" in text
    mwh = summary["energy"]["total_kwh"] / 1e3
    assert f"- Energy of the devices: {float(f'{mwh:.3g}'):g} MWh" in text
    assert f"- Energy of the data centre: {float(f'{mwh * 1.2:.3g}'):g} MWh, at a PUE of 1.2" in text
    assert "- Floating point operations: 6e+17" in text
    assert "8 GPU-hours held" in text
    assert "- Place: Germany (DE)" in text
    assert "## Method" in text and "hardware energy counters" in text


def test_annex_xi_never_calls_an_estimate_known_and_an_unknown_energy_zero(tmp_path: Path):
    estimated = json.loads(
        CliRunner().invoke(main, ["estimate", "--gpu", "T4", "--hours", "5", "--format", "json"]).stdout
    )
    assert "- Status: estimated: from specifications" in annex_xi_text(estimated)
    given = json.loads(CliRunner().invoke(main, ["estimate", "--energy", "5MWh", "--format", "json"]).stdout)
    assert "- Status: a figure that was given" in annex_xi_text(given)
    text = annex_xi_text(unseen())
    assert "- Status: unknown" in text
    assert " 0 MWh" not in text


# SCI


def test_an_sci_is_operational_and_embodied_by_the_functional_unit():
    summary = final(pue=1.2)
    found = sci_document(summary, "token")
    made = of_summary(summary)
    assert made.low_g is not None and made.high_g is not None
    tokens = 600 * 4096
    assert found["units"] == tokens
    assert found["energy_kwh"] == pytest.approx(summary["energy"]["total_kwh"] * 1.2)
    expected = (summary["carbon"]["emissions_g"] + (made.low_g + made.high_g) / 2) / tokens
    assert found["sci_g"] == pytest.approx(expected)
    assert found["sci_low_g"] < found["sci_g"] < found["sci_high_g"]
    assert sci_document(summary, "request", 10)["units"] == 10


def test_an_sci_without_a_number_of_units_or_an_energy_is_refused():
    with pytest.raises(ConfigError, match=r"--per request: how many requests .* give --units N"):
        sci_document(final(), "request")
    with pytest.raises(ConfigError, match="nothing is known of the energy"):
        sci_document(unseen(), "token", 5)


def test_an_sci_without_embodied_figures_is_unknown_and_its_operational_part_is_not():
    whole = node(0, 0, 1)
    found = sci_document(summarize(whole, whole.runs[0], "final"), "request", 100)
    assert found["sci_g"] is None
    assert found["operational_per_unit_g"] > 0


# BoAmps: fields, types and words of model/*.json at the commits that boamps.py names, written down again

TEXT, NUMBER = {"type": "string"}, {"type": "number"}


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def texts(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, TEXT)


BOAMPS = closed(
    ["task", "measures", "infrastructure"],
    header=closed(
        ["reportDatetime"],
        reportStatus={"enum": ["draft", "final", "corrective", "other"]},
        **texts("licensing", "formatVersion", "formatVersionSpecificationUri", "reportId"),
        reportDatetime={"type": "string", "pattern": r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$"},
    ),
    task=closed(
        ["taskStage", "taskFamily", "algorithms", "dataset"],
        **texts("taskStage", "taskFamily", "taskDescription"),
        nbRequest=NUMBER,
        algorithms={
            "type": "array",
            "minItems": 1,
            "items": closed([], **texts("algorithmName", "quantization"), epochsNumber=NUMBER),
        },
        dataset={
            "type": "array",
            "minItems": 1,
            "items": closed(
                ["dataUsage", "dataType"],
                dataUsage={"enum": ["input", "output"]},
                dataType={
                    "enum": [
                        *("tabular", "audio", "boolean", "image", "video", "object"),
                        *("text", "token", "word", "other"),
                    ]
                },
                dataQuantity=NUMBER,
            ),
        },
    ),
    measures={
        "type": "array",
        "minItems": 1,
        "items": closed(
            ["measurementMethod", "powerConsumption"],
            **texts("measurementMethod", "version", "cpuTrackingMode", "gpuTrackingMode"),
            measurementDateTime=TEXT,
            powerConsumption=NUMBER,
            measurementDuration=NUMBER,
        ),
    },
    system=closed(["os"], os=TEXT),
    infrastructure=closed(
        ["infraType", "components"],
        infraType={"enum": ["publicCloud", "privateCloud", "onPremise", "other"]},
        cloudProvider=TEXT,
        components={
            "type": "array",
            "minItems": 1,
            "items": closed(
                ["componentType", "nbComponent"],
                **texts("componentName", "componentType"),
                nbComponent={"type": "integer"},
                share={"type": "number", "minimum": 0, "maximum": 1},
            ),
        },
    ),
    environment=closed(["country"], **texts("country", "location"), powerSourceCarbonIntensity=NUMBER),
    quality={"enum": ["high", "medium", "low"]},
)


def test_a_boamps_report_has_the_formats_fields():
    summary = final(labels=(("task_family", "chatbot"), ("model", "tiny")))
    report = boamps_document(summary, 1_795_000_000.0)
    jsonschema.validate(report, BOAMPS)
    (measure,) = report["measures"]
    assert measure["powerConsumption"] == summary["energy"]["total_kwh"]
    assert report["task"]["taskFamily"] == "chatbot"
    assert report["task"]["algorithms"] == [
        {"algorithmName": "tiny", "quantization": "bf16", "epochsNumber": 0.5}
    ]
    assert report["task"]["dataset"][0]["dataQuantity"] == 600 * 4096
    assert report["environment"]["country"] == "Germany"
    gpus = report["infrastructure"]["components"][0]
    assert (gpus["componentType"], gpus["nbComponent"]) == ("gpu", 8)


@pytest.mark.parametrize("state", ["final", "running", "recovered"])
def test_a_boamps_report_of_every_state_is_one(state: State):
    jsonschema.validate(boamps_document(final(state), 0.0), BOAMPS)


def test_a_boamps_report_of_an_estimate_claims_no_system_and_no_quality_that_nobody_knows():
    done = CliRunner().invoke(main, ["estimate", "--energy", "5MWh", "--format", "json"])
    report = boamps_document(json.loads(done.stdout), 0.0)
    jsonschema.validate(report, BOAMPS)
    assert not {"system", "quality", "environment"} & report.keys()
    with pytest.raises(ConfigError, match="nothing is known of the energy"):
        boamps_document(unseen(), 0.0)


# CodeCarbon


def test_the_table_has_codecarbons_columns_in_its_order_and_its_units():
    summary = final(pue=1.5)
    (row,) = csv.DictReader(io.StringIO(codecarbon_csv([summary])))
    assert tuple(row) == COLUMNS
    assert COLUMNS[:7] == (
        "timestamp",
        "project_name",
        "run_id",
        "experiment_id",
        "duration",
        "emissions",
        "emissions_rate",
    )
    assert COLUMNS[-3:] == ("on_cloud", "pue", "wue")
    kwh = summary["energy"]["total_kwh"] * 1.5
    assert float(row["energy_consumed"]) == pytest.approx(kwh)
    parts = sum(float(row[f"{part}_energy"] or 0.0) for part in ("cpu", "gpu", "ram"))
    assert parts == pytest.approx(kwh)
    assert float(row["gpu_power"]) == pytest.approx(float(row["gpu_energy"]) * 1e3)
    assert float(row["emissions_rate"]) == pytest.approx(float(row["emissions"]) / 3600)
    assert (row["country_name"], row["country_iso_code"], row["gpu_count"]) == ("Germany", "DEU", "8")


def test_what_is_unknown_is_an_empty_cell_of_codecarbons_table():
    (row,) = csv.DictReader(io.StringIO(codecarbon_csv([unseen()])))
    assert {row[key] for key in ("emissions", "energy_consumed", "gpu_energy", "water_consumed")} == {""}


# Hours


def test_hours_add_up_to_the_series_and_a_row_over_an_edge_is_in_both(tmp_path: Path):
    drawn = [(START_S + 3600.0, 36_000.0), (START_S + 3630.0, 6_000.0), (START_S + 9000.0, 3.6e6)]
    folder = a_run(tmp_path, "a", start_s=START_S, duration_s=9000.0, kwh=1.02, drawn=drawn)
    hours, damaged = hours_of(folder)
    assert damaged == 0
    assert sum(hour.energy_j for hour in hours) == pytest.approx(sum(joules for _, joules in drawn))
    assert [hour.start_s for hour in hours] == sorted({hour.start_s for hour in hours})
    assert all(hour.start_s % 3600 == 0 for hour in hours)


@given(st.floats(0, 4e9), st.floats(0, 1e6))
def test_a_row_is_in_its_hours_with_all_of_its_energy(at_s: float, duration_s: float):
    parts = list(parts_by_hour(ROW._replace(at_s=at_s, duration_s=duration_s)))
    assert sum(part for _, part in parts) == pytest.approx(1.0, abs=1e-6)
    assert all(start_s % 3600 == 0 and start_s < at_s + 1e-3 for start_s, _ in parts)
    assert all(start_s + 3600 > at_s - duration_s - 1e-3 for start_s, _ in parts)
    assert len({start_s for start_s, _ in parts}) == len(parts)


def test_the_hourly_table_has_the_facilitys_energy_and_says_what_is_missing(tmp_path: Path):
    a_run(tmp_path, "a", start_s=START_S, kwh=1.0, drawn=[(START_S + 3600.0, 1.8e6)])
    done = invoke("--output", str(tmp_path), "a", "--format", "hourly-csv")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert float(row["facility_kwh"]) == pytest.approx(0.5 * float(row["pue_ratio"]))
    assert float(row["energy_kwh"]) == pytest.approx(0.5)
    assert row["hour_start_utc"].endswith(":00:00")
    assert "a: the series holds 50.0 % of the run's energy" in done.stderr


# A paragraph


def test_a_paragraph_has_the_same_figures_in_every_language():
    summary = final(pue=1.2)
    found = {language: paragraph(summary, language) for language in LANGUAGES}
    assert len(set(found.values())) == 5
    energy = "2.17 kWh"
    for language, text in found.items():
        decimal = LANGUAGES[language].decimal
        assert energy.replace(".", decimal) in text, language
        assert f"PUE {'de ' if language in ('fr', 'es') else 'von ' if language == 'de' else ''}" in text
        assert "300 g CO2e/kWh" in text and "DE, Ember, 2024, lifecycle" in text
        assert "{" not in text and "\n" not in text.rstrip("\n")


def test_the_languages_have_the_same_blanks():
    from string import Formatter

    def blanks(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    for name, text in LANGUAGES["en"]._asdict().items():
        if isinstance(text, str):
            assert {language: blanks(getattr(words, name)) for language, words in LANGUAGES.items()} == (
                dict.fromkeys(LANGUAGES, blanks(text))
            ), name
        else:
            assert all(getattr(words, name).keys() == text.keys() for words in LANGUAGES.values())


@pytest.mark.parametrize(
    ("language", "measured"),
    [("en", "measured"), ("fr", "mesur"), ("de", "messen"), ("es", "medid"), ("zh", "测")],
)
def test_what_is_counted_is_not_called_measured_for_it_may_be_estimated(language: str, measured: str):
    words = LANGUAGES[language]
    assert measured in words.measured, "it is the word of this language"
    for word in (measured, "metered", "计量"):
        assert word not in words.scope


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_an_estimate_looks_like_one_in_every_language_and_unknown_is_no_figure(language: str):
    words = LANGUAGES[language]
    done = CliRunner().invoke(main, ["estimate", "--gpu", "T4", "--hours", "5", "--format", "json"])
    assert words.estimated in paragraph(json.loads(done.stdout), language)
    done = CliRunner().invoke(main, ["estimate", "--energy", "5kWh", "--format", "json"])
    assert words.stated in paragraph(json.loads(done.stdout), language)
    assert words.energy_unknown in paragraph(unseen(), language)


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_a_paragraph_names_both_shares_of_what_is_mixed(language: str):
    words = LANGUAGES[language]

    def known(energy: dict[str, Any]) -> str:
        summary = final()
        return paragraph({**summary, "energy": summary["energy"] | energy}, language)

    def said(template: str, share: str, rest: str) -> str:
        return template.format(share=share.replace(".", words.decimal), rest=rest.replace(".", words.decimal))

    half_given = {"measured_ratio": 0.0, "stated_j": final()["energy"]["total_j"] / 4}
    assert said(words.partly, "15.0", "85.0") in known({"measured_ratio": 0.15})
    assert said(words.partly, "99.9", "0.1") in known({"measured_ratio": 0.99999})
    assert said(words.partly_stated, "25.0", "75.0") in known(half_given)
    assert words.how_unknown in known({"measured_ratio": None})
    nothing = known({"measured_ratio": None, "total_j": 0.0, "low_j": 0.0, "high_j": 0.0})
    for sentence in (words.how_unknown, words.estimated, words.measured):
        assert sentence not in nothing


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_no_name_breaks_out_of_a_form(name: str):
    whole = node(1, 1, 0, run_info(name=name, labels=(("task_family", name), ("model", name))))
    device = gpu()._replace(name=name)
    shown = whole._replace(devices=(device_state(device, counter_j=9e5), *whole.devices[1:]))
    summary = summarize(shown, shown.runs[0], "final")
    assert len(list(csv.DictReader(io.StringIO(codecarbon_csv([summary]), newline=""), strict=True))) == 1
    assert "\n" not in paragraph(summary).rstrip("\n")
    jsonschema.validate(boamps_document(summary, 0.0), BOAMPS)
    assert annex_xi_text(summary).count("\n## ") == 3


# The command


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "paragraph", "--language", "fr"),
        ("--format", "annex-xi"),
        ("--format", "sci", "--per", "sample"),
        ("--format", "sci", "--per", "request", "--units", "1.5M"),
        ("--format", "boamps"),
        ("--format", "codecarbon-csv"),
        ("--format", "text", "--advice"),
        ("--format", "markdown", "--advice"),
        ("--format", "html", "--advice"),
    ],
    ids=" ".join,
)
def test_the_command_prints_each_required_form(words: tuple[str, ...], tmp_path: Path):
    write_summary(tmp_path, final())
    done = invoke(str(tmp_path / "summary.json"), *words)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip()


def test_advice_and_a_score_are_in_the_schema(tmp_path: Path):
    write_summary(tmp_path, final())
    done = invoke(str(tmp_path / "summary.json"), "--format", "json", "--advice", "--per", "token")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    jsonschema.Draft202012Validator(strict_schema()).validate(summary)
    assert summary["sci"]["functional_unit"] == "token"


@for_each_row(
    ("words", "said"),
    [
        (("--format", "sci"), "--format sci needs the functional unit: --per token|sample|request"),
        (("--per", "token"), "--per is for --format sci and json, not for text"),
        (("--units", "5"), "--units 5 needs the functional unit"),
        (("--language", "fr"), "--language is for --format paragraph, not for text"),
        (("--advice", "--format", "csv"), "--advice is for --format text, json, markdown and html"),
        (("--format", "paragraph", "--region", "SE"), "--region is not for --format paragraph"),
        (("--format", "annex-xi", "--elsewhere", "SE"), "--elsewhere is not for --format annex-xi"),
        (("--format", "boamps", "--embodied"), "--embodied is not for --format boamps"),
        (("--format", "sci", "--per", "token", "--units", "MWh"), "a unit without a number"),
        (("--format", "sci", "--per", "token", "--units", "0"), "it is out of range"),
        (("--format", "paragraph", "--language", "xx"), "'xx' is none of en, zh, fr, de, es"),
        (("--format", "sci", "--per", "mile"), "'mile' is none of"),
    ],
)
def test_what_a_form_lacks_is_said_in_a_sentence(words: tuple[str, ...], said: str, tmp_path: Path):
    write_summary(tmp_path, final())
    done = invoke(str(tmp_path / "summary.json"), *words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_the_commands_languages_are_those_of_the_paragraph():
    assert tuple(LANGUAGES) == forms.LANGUAGES

"""Every form of a report holds for every state of a run and every name that somebody may have given it."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.cli import report
from carbonmon.core.plain_text import plain_cell
from carbonmon.runs.report.condensing import condensed
from carbonmon.runs.report.csv_table import COLUMNS, csv_text
from carbonmon.runs.report.details import Section, details_text, section_text
from carbonmon.runs.report.impact import statement
from carbonmon.runs.report.markdown import markdown_text
from carbonmon.runs.report.markup import escaped, yaml_number, yaml_text
from carbonmon.runs.report.modelcard import model_card_text
from carbonmon.runs.report.spreadsheet import spreadsheet_text
from carbonmon.runs.summary.document import summarize
from carbonmon.runs.summary.file import write_summary
from carbonmon.runs.summary.text import table_text
from tests.fuzz.folders import a_snapshot, invoke, scratch, write
from tests.fuzz.strategies import damaged_json
from tests.support.effort import examples
from tests.support.records import (
    HOSTILE_TEXTS,
    UNDECODABLE,
    device_state,
    gpu,
    node,
    run_info,
    run_state,
    run_total,
    snapshot,
)
from tests.support.rows import for_each_row
from tests.support.summaries import VALIDATOR

FORMS = ("text", "json", "markdown", "csv", "model-card")
NASTY = (
    *HOSTILE_TEXTS,
    UNDECODABLE,
    "a | b || c",
    "`tick` ``two``",
    "<script>alert(1)</script> &amp;",
    "---\nemissions: 0",
    "- item: [x](y) ![z](w)",
    "#: {a: b}, !!python/object:os.system &anchor *alias % @",
    "null",
    "1e3",
    "\x00\x1b[2J\x7f\x85\ufeff\ufffe",
    "=cmd|' /C calc'!A0",
    "x" * 2000,
)


def of(shown: Any = None, state: Any = "final") -> dict[str, Any]:
    shown = shown or node(1, 1, 1)
    return summarize(shown, shown.runs[0], state)


def named(text: str) -> dict[str, Any]:
    """A run in which everything that has a name is called so."""
    summary = of(node(1, 1, 1, run_info(name=text, command=("python", text), labels=((text, text),))))
    summary["run"]["host"] = text
    summary["run"]["labels"]["training_type"] = text
    summary["energy"]["phases"][text or "empty"] = copy.deepcopy(summary["energy"]["phases"]["main"])
    summary["carbon"]["intensity"].update(zone=text, source=text, note=text or None)
    for device in summary["energy"]["devices"]:
        device["name"] = text
    for source in summary["monitor"]["sources"]:
        source["reason"] = text
    return summary


def empty() -> dict[str, Any]:
    return of(snapshot((run_state(phases_s=(), duration_s=0.0),), samples=0, sensors=()))


def unknown() -> dict[str, Any]:
    """Everything that may be null is null, and what earlier versions lacked is not there."""
    summary = of()
    summary["run"].update(dict.fromkeys(("started_at", "ended_at", "duration_s", "exit_code", "signal")))
    for key in ("idle_policy", "cpu_s", "progress", "ranks"):
        del summary["run"][key]
    energy = summary["energy"]
    energy.update(dict.fromkeys(("low_j", "high_j", "measured_ratio", "recovered_j")))
    del energy["node"]
    for device in energy["devices"]:
        keys = ("name", "mean_power_w", "peak_power_w", "utilization_ratio", "unobserved_s", "anomalies")
        device.update(dict.fromkeys(keys))
    for phase in energy["phases"].values():
        phase["duration_s"] = None
        del phase["measured_ratio"], phase["components"]
    for method in energy["methods"].values():
        method.update(low_ratio=None, high_ratio=None, sources=[])
    summary["carbon"].update(dict.fromkeys(("low_g", "high_g")))
    nothing = dict.fromkeys(("mean_g_per_kwh", "basis", "accounting", "year", "note"))
    summary["carbon"]["intensity"].update(nothing, zone="", source="user", kind="fixed")
    summary["carbon"].pop("sources", None)
    return summary


def gone() -> dict[str, Any]:
    """A device has totals from before a restart, and is not in the machine any more."""
    rows = (run_total("GPU-gone", "gpu", "counter", 50.0), run_total(gpu().id, "gpu", "tdp", 5.0))
    run = run_state(totals=rows)._replace(recovered_j=12.0)
    return of(snapshot((run,), (device_state(gpu()),)))


def full() -> dict[str, Any]:
    """With everything that is optional."""
    summary = of()
    intensity = {**summary["carbon"]["intensity"], "mean_g_per_kwh": 300.0, "source": "RTE", "kind": "live"}
    summary["settled"] = {
        "emissions_g": 103.0,
        "low_g": 97.0,
        "high_g": 110.0,
        "pue": 1.0,
        "settled_at": "2026-11-24T10:00:00.000Z",
        "intensity": intensity,
        "covered_ratio": 0.75,
    }
    half = {"zone": "DE", "basis": "lifecycle", "accounting": "production", "year": 2024, "emissions_g": 60.0}
    summary["carbon"]["sources"] = [
        {**half, "source": "Ember", "kind": "table", "energy_j": 300_000.0},
        {**half, "source": "Electricity Maps", "kind": "live", "energy_j": 900_000.0},
    ]
    summary["carbon"]["pue_source"] = "Uptime 2025"
    summary["water"] = {
        "litres": 0.6,
        "low_litres": 0.5,
        "high_litres": 0.7,
        "wue_l_per_kwh": 1.8,
        "source": "the provider",
    }
    summary["costs"] = [
        {
            "currency": "EUR",
            "amount": 0.1,
            "low_amount": 0.09,
            "high_amount": 0.11,
            "priced_ratio": 0.5,
            "source": "user",
        }
    ]
    return summary


SHAPES = {
    "final": of(),
    "running": of(state="running"),
    "recovered": of(state="recovered"),
    "estimated": of(state="estimated"),
    "empty": empty(),
    "unknown": unknown(),
    "gone": gone(),
    "full": full(),
    "node": of(node()),
}


def shown(summary: dict[str, Any]) -> dict[str, str]:
    """The summary in every form that people or programs read."""
    return {
        "text": table_text(condensed(summary)) + details_text(summary),
        "markdown": markdown_text(summary),
        "csv": csv_text([summary]),
        "spreadsheet": spreadsheet_text([summary]),
        "model-card": model_card_text(summary, "France (FR)"),
    }


@for_each_row("shape", SHAPES)
def test_every_shape_of_a_summary_has_every_form(shape: str) -> None:
    for form, text in shown(SHAPES[shape]).items():
        text.encode("utf-8")
        assert text.endswith("\n"), form
        assert re.search(r"\b(nan|inf|None)\b", text) is None, (form, text)


@for_each_row("name", NASTY)
def test_no_name_breaks_a_form(name: str) -> None:
    clean = {form: len(text.splitlines()) for form, text in shown(named("plain")).items()}
    for form, text in shown(named(name)).items():
        text.encode("utf-8")
        if form in ("text", "model-card"):
            assert abs(len(text.splitlines()) - clean[form]) <= 40, "only what is wrapped, or left out"
        if form == "text":
            assert all(character.isprintable() or character == "\n" for character in text)


# Markdown


def cells(line: str) -> list[str]:
    """The cells of a row: what stands between pipes that are not escaped."""
    return re.split(r"(?<!\\)(?:\\\\)*\|", line.strip())[1:-1]


def tables(text: str) -> list[list[list[str]]]:
    groups = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    return [[cells(line) for line in group] for group in groups]


@for_each_row("name", NASTY)
def test_a_name_stays_in_its_cell_and_means_nothing_to_markdown(name: str) -> None:
    plain, text = tables(markdown_text(named("plain"))), markdown_text(named(name))
    for expected, found in zip(plain, tables(text), strict=True):
        assert {len(row) for row in found} == {len(expected[0])}
    assert "<script" not in text
    assert "[x](y)" not in text
    assert not re.search(r"(?<!\\)`", text)


@given(st.text(max_size=60))
def test_escaped_text_has_no_bare_mark_and_one_line(text: str) -> None:
    found = escaped(text)
    bare = re.sub(r"\\.", "", found)
    assert not re.search(r"[`*|<>\[\]~#]", bare)
    assert all(character.isprintable() for character in found)


def test_plain_names_stay_readable_in_the_source() -> None:
    for name in ("train_digits", "NVIDIA A100-SXM4-80GB", "0.1.0", "20261124-101843", "AMD EPYC (7742)"):
        assert escaped(name) == name


def test_a_line_that_would_begin_a_list_or_a_rule_does_not() -> None:
    assert [escaped(text) for text in ("- a", "1. a", "---", "===", "+ b", "2) c")] == [
        *("\\- a", "1\\. a", "\\---", "\\===", "\\+ b", "2\\) c")
    ]


def test_a_markdown_report_has_range_share_intensity_and_impact() -> None:
    text = markdown_text(of())
    assert "| energy | 345 Wh | 324 to 364 | 96.8 % measured, 3.2 % estimated |" in text
    assert "| emissions | 124 g CO2e | 105 to 157 |" in text
    assert "DE, Ember, lifecycle emissions, production-based, annual mean of 2024" in text
    assert "## Impact statement" in text
    assert "## Phases" not in text


def test_an_estimate_looks_like_one_everywhere() -> None:
    rows = (run_total(gpu().id, "gpu", "tdp", 3.6e6),)
    summary = of(snapshot((run_state(totals=rows),), (device_state(gpu()),), sensors=()))
    for form, text in shown(summary).items():
        assert "measured by" not in text, form
        assert "estimated" in text or form in ("csv", "spreadsheet")
    assert "| energy | 1.00 kWh | 0.600 to 1.20 | estimated |" in markdown_text(summary)


# The impact statement


def test_the_statement_says_what_was_counted_and_what_was_not() -> None:
    text = " ".join(statement(of()))
    assert "the electricity of GPUs, CPU packages and memory." in text
    assert "all of the node that no other run used, idle energy included" in text
    assert "making and scrapping the hardware" in text
    assert "network" in text
    assert "a PUE of 1 adds none" in text
    assert "carbonmon 0.1.0, a sample every 1 s" in text


def test_a_component_that_was_not_metered_is_said_to_be_missing() -> None:
    text = " ".join(statement(of(node(0, 1, 0))))
    assert "the electricity of CPU packages." in text
    assert "GPUs (none was metered), memory (none was metered)" in text


def test_embodied_carbon_is_named_where_it_was_asked_for() -> None:
    made = {"low_g": 1000.0, "high_g": 3500.0, "unknown": ["NVIDIA X1"], "sources": ["Boavizta"]}
    summary = {**of(), "embodied": made}
    text = " ".join(statement(summary))
    assert "On top: 1.00 kg to 3.50 kg CO2e of making the hardware" in text
    assert "nothing is known of NVIDIA X1; by Boavizta" in text
    assert "making and scrapping" not in text
    (row,) = [row for row in read(csv_text([summary])) if row["scope"] == "embodied"]
    assert (row["emissions_g"], row["emissions_low_g"], row["emissions_high_g"]) == ("", "1000.0", "3500.0")
    assert "an unknown amount" in details_text({**of(), "embodied": {**made, "low_g": None, "high_g": None}})


def test_the_statement_tells_how_each_part_was_known() -> None:
    text = " ".join(statement(of(node(1, 1, 1))))
    assert (
        "Of the energy, 96.7 % was measured by hardware energy counters, <0.1 % was measured by power "
        "sensors and 3.2 % was estimated from specifications" in text
    )


def test_a_run_that_goes_on_or_was_lost_says_so() -> None:
    assert "still active" in " ".join(statement(of(state="running")))
    assert "last checkpoint" in " ".join(statement(of(state="recovered")))
    assert "without a measurement" in " ".join(statement(of(state="estimated")))


def test_what_no_sensor_measured_is_called_estimated_from_the_first_sentence_on() -> None:
    summary = full()
    assert " used 345 Wh of electricity" in statement(summary)[0]
    summary["energy"]["measured_ratio"] = 0.0
    assert " used an estimated 345 Wh of electricity" in statement(summary)[0]


def test_several_intensities_are_listed_with_their_shares() -> None:
    text = " ".join(statement(full()))
    assert "75.0 % for DE, by Electricity Maps, figures of the moment" in text
    assert "25.0 % for DE, by Ember, annual mean of 2024" in text
    assert "The PUE is Uptime 2025." in text
    summary = full()
    summary["carbon"]["pue_source"] = "user"
    assert "The PUE is the user's." in " ".join(statement(summary))


def test_settled_carbon_stands_beside_the_live_one() -> None:
    for form, text in shown(full()).items():
        assert "103" in text, form
    assert "124 g CO2e" in details_and_table(full())
    assert "  settled    103 g CO2e (97.0 to 110); 300 g CO2e/kWh: DE, RTE" in details_and_table(full())
    assert "known for 75.0 % of the energy" in " ".join(details_and_table(full()).split())


def details_and_table(summary: dict[str, Any]) -> str:
    return table_text(summary) + details_text(summary)


# CSV


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_each_scope_adds_up_to_the_run() -> None:
    rows = read(csv_text([of(node())]))
    (total,) = [row for row in rows if row["scope"] == "run"]
    for scope in ("phase", "component", "method", "device"):
        part = sum(float(row["energy_j"]) for row in rows if row["scope"] == scope)
        assert part == pytest.approx(float(total["energy_j"]))


def test_the_table_has_a_row_for_each_device_and_method_and_its_units_in_the_head() -> None:
    rows = [row for row in read(csv_text([of()])) if row["scope"] == "device"]
    assert [(row["item"], row["method"], row["energy_j"]) for row in rows] == [
        (gpu().id, "counter", "900000.0"),
        (gpu().id, "power", "1000.0"),
        (gpu().id, "tdp", "0.0"),
        ("package-0", "counter", "300000.0"),
        ("package-0", "tdp", "0.0"),
        ("dram-0", "tdp", "40000.0"),
    ]
    texts = {"run_id", "run_name", "host", "state", "started_at", "ended_at", "scope", "item", "component"}
    texts |= {"method", "device_name", "cost", "currency", "carbonmon_version", "count"}
    units = ("_j", "_g", "_s", "_w", "_l", "_ratio", "_per_kwh")
    facts = {name for name in COLUMNS if name.startswith("intensity_") and not name.endswith(units)}
    assert all(name.endswith(units) for name in COLUMNS if name not in texts | facts)


def test_unknown_is_an_empty_cell_and_never_zero() -> None:
    (run,) = [row for row in read(csv_text([unknown()])) if row["scope"] == "run"]
    for column in ("energy_low_j", "measured_ratio", "duration_s", "intensity_g_per_kwh", "water_l"):
        assert run[column] == ""
    (device, *_) = [row for row in read(csv_text([of()])) if row["scope"] == "device"]
    assert device["emissions_g"] == "", "nobody knows the emissions of one device"


@for_each_row("name", NASTY)
def test_every_name_comes_through_the_csv_as_a_printable_text(name: str) -> None:
    rows, expected = read(csv_text([named(name)])), plain_cell(name)
    assert {row["run_name"] for row in rows} == {expected}
    assert expected in {row["item"] for row in rows} or not name
    assert {row["device_name"] for row in rows if row["scope"] == "device"} == {expected}


def test_optional_amounts_have_rows_of_their_own() -> None:
    rows = read(csv_text([full()]))
    (settled,) = [row for row in rows if row["scope"] == "settled"]
    assert (settled["emissions_g"], settled["intensity_source"]) == ("103.0", "RTE")
    assert [row["item"] for row in rows if row["scope"] == "source"] == ["Ember", "Electricity Maps"]
    (cost,) = [row for row in rows if row["scope"] == "cost"]
    assert (cost["cost"], cost["currency"]) == ("0.1", "EUR")
    assert next(row["water_l"] for row in rows if row["scope"] == "run") == "0.6"


def test_several_runs_share_one_table() -> None:
    one, other = of(), of(node(1, 0, 0, run_info("slurm-7")))
    assert {row["run_id"] for row in read(csv_text([one, other]))} == {"slurm-4242", "slurm-7"}


# The model card


def card(summary: dict[str, Any], place: str = "France (FR)") -> dict[str, Any]:
    found: dict[str, Any] = ModelCard(model_card_text(summary, place)).data.to_dict()["co2_eq_emissions"]
    return found


def test_the_card_has_the_keys_of_the_hub_and_grams() -> None:
    summary = of(node(8, 2, 2, run_info(labels=(("training_type", "fine-tuning"),))))
    found = card(summary)
    assert found["emissions"] == pytest.approx(summary["carbon"]["emissions_g"], rel=1e-5)
    assert found["training_type"] == "fine-tuning"
    assert found["geographical_location"] == "France (FR)"
    assert found["hardware_used"] == "8 × NVIDIA A100-SXM4-80GB, 2 × AMD EPYC 7742 64-Core Processor"
    assert found["source"].startswith("carbonmon 0.1.0: 99.0 % of the energy measured, the rest estimated")


def test_what_the_run_does_not_know_is_left_out_of_the_card() -> None:
    text = model_card_text(empty(), "")
    assert card(empty(), "").keys() == {"source"}
    assert "# emissions: unknown (no sensor gave a reading)" in text
    assert "# training_type: unknown" in text
    assert "# geographical_location: unknown" in text


def test_the_card_of_a_settled_run_has_the_settled_emissions() -> None:
    assert card(full())["emissions"] == 103.0
    assert "RTE" in card(full())["source"]


@for_each_row("name", NASTY)
def test_every_name_comes_through_the_front_matter(name: str) -> None:
    text = model_card_text(named(name), name)
    found = ModelCard(text)
    entry = found.data.to_dict()["co2_eq_emissions"]
    expected = name.encode("utf-8", "backslashreplace").decode()
    assert entry.get("training_type", "") == expected
    assert entry.get("geographical_location", "") == expected
    assert set(entry) <= {"emissions", "source", "training_type", "geographical_location", "hardware_used"}
    again = ModelCard(str(found))
    assert again.data.to_dict() == found.data.to_dict()
    assert "## Environmental impact" in again.text


@given(st.text(max_size=80))
def test_any_text_is_a_yaml_scalar(text: str) -> None:
    expected = text.encode("utf-8", "backslashreplace").decode()
    assert yaml.safe_load(f"key: {yaml_text(text)}") == {"key": expected}


@given(st.floats(0, 1e30))
def test_any_amount_is_a_yaml_number(number: float) -> None:
    found = yaml.safe_load(f"key: {yaml_number(number)}")["key"]
    assert isinstance(found, (int, float))
    assert found == pytest.approx(number, rel=1e-5)


# Long lists


def test_the_devices_of_many_nodes_are_listed_by_kind_with_their_sums() -> None:
    summary = of(node(24, 2, 2))
    shown = condensed(summary)["energy"]["devices"]
    assert [(device["id"], device["component"]) for device in shown] == [
        *(("24 devices", "gpu"), ("2 devices", "cpu"), ("2 devices", "dram"))
    ]
    total_j = sum(device["energy_j"] for device in shown)
    assert total_j == pytest.approx(summary["energy"]["total_j"])
    assert shown[0]["mean_power_w"] == pytest.approx(24 * 901_000.0 / 3600.0)
    assert condensed(of(node()))["energy"]["devices"] == of(node())["energy"]["devices"]


def test_a_section_keeps_within_the_width_of_a_page() -> None:
    section = Section("title", ("a", "b"), [("x" * 200, "1"), ("y", "22")], ["note " * 50], numbers=(1,))
    lines = section_text(section, 100).splitlines()
    assert max(map(len, lines)) <= 100
    assert "".join(lines).count("x") == 200, "nothing is cut"
    assert [line.split()[-1] for line in lines if line.split()[-1].isdecimal()] == ["1", "22"]


# The command


def ended(folder: Path, summary: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return write_summary(folder, summary)


@pytest.mark.parametrize("form", FORMS)
def test_the_command_prints_each_form_of_a_final_and_of_a_running_run(form: str, tmp_path: Path) -> None:
    write(tmp_path, a_snapshot())
    for path in (ended(tmp_path / "done", full()).parent, tmp_path):
        done = invoke(report.command, path, "--format", form)
        assert done.exit_code == 0, done.output
        assert "slurm-4242" in done.stdout or form == "model-card"


@given(damaged_json(of(node(1, 1, 1))))
@examples(100)
def test_a_summary_with_other_values_has_every_form_or_is_named(data: bytes) -> None:
    with scratch() as folder:
        (folder / "summary.json").write_bytes(data)
        options = (("text", "--elsewhere"), ("text", "--merge"), *((form,) for form in FORMS))
        codes = set()
        for form, *more in options:
            done = invoke(report.command, folder / "summary.json", "--format", form, *more)
            done.output.encode()
            codes.add(done.exit_code)
            assert done.exit_code == 0 or str(folder) in done.output
        assert len(codes) == 1, "what one form takes the others take"


@pytest.mark.parametrize("form", FORMS)
def test_embodied_carbon_comes_when_it_is_asked_for(form: str, tmp_path: Path) -> None:
    path = ended(tmp_path, of())
    plain, asked = (invoke(report.command, path, "--format", form, *more) for more in ((), ("--embodied",)))
    assert asked.exit_code == 0, asked.output
    assert "embodied" in asked.stdout or "of making the hardware" in asked.stdout
    assert "embodied" not in plain.stdout


def test_a_file_of_any_name_is_a_run(tmp_path: Path) -> None:
    path = ended(tmp_path, of()).rename(tmp_path / "node-7.json")
    assert json.loads(invoke(report.command, path, "--format", "json").stdout) == of()


def test_a_copied_summary_of_a_run_that_goes_on_is_refused(tmp_path: Path) -> None:
    path = ended(tmp_path, of(state="running")).rename(tmp_path / "node-7.json")
    done = invoke(report.command, path)
    assert done.exit_code == 2
    assert "had not ended" in done.output


def test_a_csv_never_holds_the_same_run_twice(tmp_path: Path) -> None:
    path = ended(tmp_path, of())
    done = invoke(report.command, path, path, "--format", "csv")
    assert done.exit_code == 2
    assert "given twice" in done.output


def test_a_model_card_is_of_one_run(tmp_path: Path) -> None:
    paths = [ended(tmp_path / name, of(node(1, 0, 0, run_info(name)))) for name in ("a", "b")]
    done = invoke(report.command, *paths, "--format", "model-card")
    assert done.exit_code == 2
    assert "--merge" in done.output


def test_the_card_names_the_place_of_the_zone(tmp_path: Path) -> None:
    done = invoke(report.command, ended(tmp_path, of()), "--format", "model-card")
    assert (
        ModelCard(done.stdout).data.to_dict()["co2_eq_emissions"]["geographical_location"] == "Germany (DE)"
    )


def test_no_run_is_a_mistake_that_says_what_to_name(tmp_path: Path) -> None:
    done = invoke(report.command)
    assert done.exit_code == 2
    assert "name a RUN" in done.output


@pytest.mark.parametrize("arguments", [("--elsewhere",), ("--elsewhere", "countries"), ("--elsewhere=GCP",)])
def test_other_places_come_with_every_form(arguments: tuple[str, ...], tmp_path: Path) -> None:
    path = ended(tmp_path, of())
    for form in ("text", "markdown", "model-card"):
        done = invoke(report.command, "--format", form, *arguments, path)
        assert done.exit_code == 0, done.output
        assert "elsewhere, at the same PUE of 1.00" in done.stdout
        assert "its own" in done.stdout
    document = json.loads(invoke(report.command, "--format", "json", *arguments, path).stdout)
    VALIDATOR.validate(document)
    rows = read(invoke(report.command, "--format", "csv", *arguments, path).stdout)
    places = document["elsewhere"]["places"]
    assert [row["place"] for row in rows] == [place["place"] for place in places]
    assert [place["place"] for place in places if place["is_own"]] == ["DE"]
    for row, place in zip(rows, places, strict=True):
        assert float(row["emissions_kg"]) == pytest.approx(place["emissions_g"] / 1e3, rel=1e-5)
        assert row["intensity_source"] == place["intensity"]["source"]


def test_named_places_are_told_from_runs(tmp_path: Path) -> None:
    path = ended(tmp_path / "done", of())
    for words in (
        ("--elsewhere", "SE,aws:us-east-1", path),
        ("--elsewhere", "SE", path),
        ("--elsewhere", path),
    ):
        assert invoke(report.command, *words).exit_code == 0, words
    two = invoke(
        report.command, "--output", tmp_path, "--elsewhere", "done", path.parent, "--format", "markdown"
    )
    assert two.stdout.count("elsewhere, at the same PUE") == 2, "the first word is a run as well"
    none = invoke(report.command, "--elsewhere", "SE,DE")
    assert none.exit_code == 2 and "name a RUN" in none.output


def test_a_misspelt_place_is_answered_with_the_nearest_and_the_providers(tmp_path: Path) -> None:
    done = invoke(report.command, "--output", tmp_path, "--elsewhere", "DE,Swedn", ended(tmp_path, of()))
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "'Swedn' is unknown; the nearest are SE (Sweden)" in said
    assert " aws," in said


@pytest.mark.parametrize("form", FORMS)
def test_a_what_if_stands_beside_the_runs_own_figures_and_is_called_one(form: str, tmp_path: Path) -> None:
    path = ended(tmp_path, of())
    kept = path.read_bytes()
    plain = invoke(report.command, path, "--format", form)
    asked = invoke(report.command, path, "--format", form, "--region", "SE")
    assert asked.exit_code == 0, asked.output
    words = re.sub("[-_]", " ", asked.stdout.lower())
    assert "what if" in words and "what if" not in re.sub("[-_]", " ", plain.stdout.lower())
    own = set(re.findall(r"\d+\.?\d*", plain.stdout))
    assert own <= set(re.findall(r"\d+\.?\d*", asked.stdout)), "no figure of the run is replaced"
    assert path.read_bytes() == kept
    unknown = invoke(report.command, path, "--format", form, "--region", "Swedn")
    assert unknown.exit_code == 2 and "the nearest are SE (Sweden)" in " ".join(unknown.output.split())


def test_the_region_of_a_config_file_asks_for_no_what_if(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('region = "SE"')
    done = invoke(report.command, ended(tmp_path, of()), "--config", tmp_path / "c.toml")
    assert done.exit_code == 0 and "what if" not in done.stdout


@for_each_row(
    ("words", "said"),
    [
        (("--details",), "--details is for --format csv"),
        (("--format", "csv", "--series", "--details"), "not for --details"),
        (("--format", "csv", "--series", "--region", "SE"), "not for --region"),
        (("--format", "csv", "--series", "--elsewhere"), "not for --elsewhere"),
        (("--format", "csv", "--elsewhere", "DE", "--region", "SE"), "has one table"),
    ],
)
def test_what_a_table_has_no_place_for_is_said(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = invoke(report.command, ended(tmp_path, of()), *words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_the_details_of_a_csv_are_asked_for(tmp_path: Path) -> None:
    path = ended(tmp_path, full())
    rows = read(invoke(report.command, path, "--format", "csv", "--details", "--region", "SE").stdout)
    assert {"run", "settled", "device", "what_if"} <= {row["scope"] for row in rows}
    (row,) = read(invoke(report.command, path, "--format", "csv").stdout)
    assert row["run_id"] == "slurm-4242"

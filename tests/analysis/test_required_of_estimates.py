"""Reports that somebody requires, of estimates: devices, given figures, several places."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from carbonmon.analysis.compare_regions import place_name
from carbonmon.analysis.embodied import of_summary
from carbonmon.analysis.required.annex_xi import annex_xi_text
from carbonmon.analysis.required.boamps import boamps_document
from carbonmon.analysis.required.codecarbon import codecarbon_csv
from carbonmon.analysis.required.paragraph import paragraph
from carbonmon.cli import main
from carbonmon.runs.report.modelcard import model_card_text


def estimated(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["estimate", *arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


EIGHT = ("--gpu", "H100 SXM5 80GB:8", "--hours", "720")
GPU_HOURS = ("--gpu", "A100 SXM4 80GB", "--gpu-hours", "1.08M")


def test_the_devices_of_an_estimate_are_counted_and_not_its_entries():
    summary = estimated(*EIGHT)
    (gpus,) = boamps_document(summary, 0.0)["infrastructure"]["components"]
    assert (gpus["nbComponent"], gpus["componentName"]) == (8, "H100 SXM5 80GB")
    (row,) = csv.DictReader(io.StringIO(codecarbon_csv([summary])))
    assert (row["gpu_count"], row["gpu_model"], row["cpu_count"]) == ("8", "8 × H100 SXM5 80GB", "")


def test_gpu_hours_say_nothing_of_a_number_of_gpus():
    summary = estimated(*GPU_HOURS)
    for text in (annex_xi_text(summary), paragraph(summary), model_card_text(summary)):
        assert "A100 SXM4 80GB" in text and "1 ×" not in text
    (row,) = csv.DictReader(io.StringIO(codecarbon_csv([summary])))
    assert (row["gpu_count"], row["gpu_model"]) == ("", "A100 SXM4 80GB")
    (gpus,) = boamps_document(summary, 0.0)["infrastructure"]["components"]
    assert gpus["componentName"] == "A100 SXM4 80GB (number not known)"


def test_an_energy_that_was_given_is_no_estimate_from_specifications_on_a_module():
    summary = estimated("--energy", "433MWh", "--intensity", "57")
    for text in (annex_xi_text(summary), model_card_text(summary)):
        assert "all is a figure that was given" in text
        for wrong in ("TDP", "433 to 433", "all hardware", "energy estimated", "systematic errors"):
            assert wrong not in text
    (part,) = boamps_document(summary, 0.0)["infrastructure"]["components"]
    assert part["componentType"] == "other"


def test_a_power_that_was_given_beside_gpus_is_told_apart_from_the_estimate():
    text = annex_xi_text(estimated("--gpu", "T4:4", "--hours", "5", "--host-power", "280W"))
    assert "Of the energy, 50.0 % is a figure that was given, taken as exact and 50.0 % was estimated" in text
    assert "utilisation, 50.0 % a figure that was given, nothing was measured" in text


def test_a_pue_of_1_is_not_said_to_be_missing():
    with_one, without = (annex_xi_text(estimated(*EIGHT, *more)) for more in (("--pue", "1"), ()))
    assert "not known, no PUE above 1 was given" in with_one
    assert with_one == without


def test_the_making_of_some_cores_is_not_that_of_the_whole_cpu():
    cores = estimated("--cpu", "EPYC 7742", "--cpu-cores", "16", "--hours", "100", "--embodied")
    found = of_summary(cores)
    assert found.low_g == pytest.approx(cores["embodied"]["low_g"])
    assert found.high_g == pytest.approx(cores["embodied"]["high_g"])


def test_a_report_of_an_estimate_at_two_places_names_both_and_no_one_country(tmp_path: Path):
    parts = tmp_path / "parts.toml"
    parts.write_text(
        '[[part]]\nname = "a"\ngpu = "T4:2"\nhours = 9\nregion = "FR"\n'
        '[[part]]\nname = "b"\ngpu = "T4:2"\nhours = 8\nregion = "PL"\n'
    )
    summary = estimated(str(parts))
    assert place_name(summary) == "France (FR); Poland (PL)"
    text = paragraph(summary)
    assert "(FR, Ember" in text and "; PL, Ember" in text
    (row,) = csv.DictReader(io.StringIO(codecarbon_csv([summary])))
    assert (row["country_name"], row["country_iso_code"]) == ("", "")
    assert "environment" not in boamps_document(summary, 0.0)


def test_two_estimates_are_two_reports_and_one_is_one():
    ids = [boamps_document(estimated(*each), 0.0)["header"]["reportId"] for each in (EIGHT, GPU_HOURS, EIGHT)]
    assert ids[0] == ids[2] != ids[1]


def test_two_estimates_are_two_rows_of_a_spreadsheet_and_one_is_not_given_twice(tmp_path: Path):
    for name, arguments in (("a", EIGHT), ("b", GPU_HOURS)):
        (tmp_path / f"{name}.json").write_text(json.dumps(estimated(*arguments)))
    one, other = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    done = CliRunner().invoke(main, ["report", one, other, "--format", "csv"])
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 3, done.output
    twice = CliRunner().invoke(main, ["report", one, one, "--format", "csv"])
    assert twice.exit_code == 2 and "is given twice" in twice.output


def test_water_of_one_part_is_not_that_of_all(tmp_path: Path):
    parts = tmp_path / "parts.toml"
    parts.write_text(
        '[[part]]\nname = "a"\nenergy = "1MWh"\nwater-intensity = 2\n[[part]]\nname = "b"\nenergy = "3MWh"\n'
    )
    done = CliRunner().invoke(main, ["estimate", str(parts)])
    text = " ".join(done.stdout.split())
    assert "2000 L of water for 25.0 % of the energy; of the rest unknown" in text


def test_a_wrong_region_of_a_part_says_which_part(tmp_path: Path):
    parts = tmp_path / "parts.toml"
    parts.write_text('[[part]]\nname = "a"\nenergy = "1MWh"\nregion = "Frnace"\n')
    done = CliRunner().invoke(main, ["estimate", str(parts)])
    assert "parts.toml, part 1: region 'Frnace' is unknown" in " ".join(done.output.split())


def test_what_was_given_beside_gpus_is_marked_as_given():
    done = CliRunner().invoke(main, ["estimate", "--gpu", "T4:4", "--hours", "5", "--host-power", "280W"])
    (gpus,) = (line for line in done.stdout.splitlines() if "gpu-T4" in line)
    (hosts,) = (line for line in done.stdout.splitlines() if "module-hosts" in line)
    assert gpus.endswith("estimated (tdp)") and hosts.endswith("as given")


def test_a_summary_with_other_places_is_read_again(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(estimated(*EIGHT, "--region", "DE")))
    elsewhere = CliRunner().invoke(main, ["report", str(path), "--elsewhere", "SE", "--format", "json"])
    path.write_text(elsewhere.stdout)
    again = CliRunner().invoke(main, ["report", str(path)])
    assert again.exit_code == 0, again.output

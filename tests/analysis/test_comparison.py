"""`carbonmon compare`: errors that both runs have cancel in a difference, and no others do."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.analysis.comparison import compare, forms
from carbonmon.analysis.comparison.shared_errors import Part, ratio_range
from carbonmon.core.errors import ConfigError
from carbonmon.runs.report.details import section_text
from carbonmon.runs.summary.document import summarize
from tests.support.records import device_state, gpu, package, run_info, run_state, run_total, snapshot
from tests.support.rows import for_each_row
from tests.support.run_folders import a_run, carbonmon


def of(*parts: tuple[Any, str, float], info: Any = None, **more: Any) -> dict[str, Any]:
    """The summary of a run of devices with their methods and joules."""
    devices = {device.id: device for device, _, _ in parts}
    totals = tuple(run_total(device.id, device.component, method, joules) for device, method, joules in parts)
    states = tuple(device_state(device) for device in devices.values())
    return summarize(
        snapshot((run_state(info, totals, **more),), states), run_state(info, totals, **more), "final"
    )


def test_of_the_same_sensor_nothing_is_left_of_its_error():
    found = compare(of((gpu(), "counter", 1000.0)), of((gpu(), "counter", 900.0)))
    assert found.energy_j.ratio == pytest.approx(-0.1)
    assert (found.energy_j.low, found.energy_j.high) == (pytest.approx(-0.1), pytest.approx(-0.1))
    assert found.common_ratio == 1.0


def test_of_two_devices_both_errors_are_in_the_range():
    found = compare(of((gpu(0), "counter", 1000.0)), of((gpu(1), "counter", 900.0)))
    low_ratio, high_ratio = 0.05, 0.05
    assert found.energy_j.low == pytest.approx(0.9 * (1 - low_ratio) / (1 + high_ratio) - 1.0)
    assert found.energy_j.high == pytest.approx(0.9 * (1 + high_ratio) / (1 - low_ratio) - 1.0)
    assert found.common_ratio == 0.0


def test_the_package_of_another_machine_is_another_device():
    one = of((package(), "counter", 1000.0))
    other = of((package(), "counter", 1000.0))
    assert compare(one, other).common_ratio == 1.0
    other["run"]["host"] = "elsewhere"
    assert compare(one, other).common_ratio == 0.0


def test_two_devices_of_one_model_have_the_error_of_its_specification_in_common():
    assert compare(of((gpu(0), "tdp", 1000.0)), of((gpu(1), "tdp", 700.0))).common_ratio == 1.0
    assert compare(of((gpu(0), "tdp", 1000.0)), of((gpu(0), "counter", 700.0))).common_ratio == 0.0


PARTS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.floats(1.0, 1000.0), st.floats(0.0, 0.5), st.floats(0.0, 1.0)),
    min_size=1,
    max_size=4,
    unique_by=lambda part: part[0],
)


@given(PARTS, PARTS)
def test_the_range_is_that_of_all_combinations_of_errors(base: Sequence[Any], other: Sequence[Any]):
    """A source that both have has one error: it is tried at both ends, as all are."""
    bounds = {name: (low, high) for name, _, low, high in base}
    other = [(name, joules, *bounds.get(name, (low, high))) for name, joules, low, high in other]
    ends = {name: (1 - low, 1 + high) for name, _, low, high in (*base, *other)}
    ratios = []
    for gains in itertools.product(*ends.values()):
        gain = dict(zip(ends, gains, strict=True))
        sums = [sum(gain[name] * joules for name, joules, _, _ in parts) for parts in (base, other)]
        ratios.append(sums[1] / sums[0])
    found = ratio_range([Part(*part) for part in base], [Part(*part) for part in other])
    assert found == (pytest.approx(min(ratios)), pytest.approx(max(ratios)))


def test_an_unknown_error_is_an_unknown_range():
    known, unknown = Part("a", 1.0, 0.1, 0.1), Part("b", 1.0, None, None)
    assert ratio_range([known], [known, unknown]) == (None, None)
    assert ratio_range([known], [known, unknown._replace(energy_j=0.0)]) == (
        pytest.approx(1.0),
        pytest.approx(1.0),
    )


def test_the_error_of_the_same_intensity_cancels_as_well():
    base, other = of((gpu(), "counter", 1000.0)), of((gpu(), "counter", 900.0))
    found = compare(base, other)
    assert found.has_common_intensity
    assert (found.emissions_g.low, found.emissions_g.high) == (pytest.approx(-0.1), pytest.approx(-0.1))
    other["carbon"]["intensity"]["zone"] = "FR"
    found = compare(base, other)
    assert not found.has_common_intensity
    assert found.emissions_g.low == pytest.approx(0.9 * 0.9 / 1.2 - 1.0)
    assert found.emissions_g.high == pytest.approx(0.9 * 1.2 / 0.9 - 1.0)


def test_phases_that_one_run_lacks_are_unknown_there():
    base = of((gpu(), "counter", 1000.0), phases_s=(("main", 10.0), ("eval", 5.0)))
    phases = compare(base, of((gpu(), "counter", 900.0))).phases
    assert phases["main"][0].ratio == pytest.approx(-0.1)
    assert phases["eval"][1].ratio is None


def test_the_energy_of_a_step_and_a_token_is_compared_where_both_runs_told_them():
    base, other = of((gpu(), "counter", 1000.0)), of((gpu(), "counter", 900.0))
    assert compare(base, other).per_work_j == {}
    base["work"] = {"energy_per_step_j": 10.0, "energy_per_token_j": 0.5, "energy_per_epoch_j": None}
    other["work"] = {"energy_per_step_j": 8.0, "energy_per_token_j": None, "energy_per_epoch_j": None}
    found = compare(base, other).per_work_j
    assert list(found) == ["step"]
    assert found["step"].ratio == pytest.approx(-0.2)


def test_a_base_without_energy_is_refused():
    with pytest.raises(ConfigError, match="no energy was seen in run 'slurm-4242'"):
        compare(of(), of((gpu(), "counter", 900.0)))
    assert compare(of((gpu(), "counter", 900.0)), of(info=run_info("two"))).energy_j.ratio is None


# ---- The command ----


@pytest.fixture
def output(tmp_path: Path) -> Path:
    a_run(tmp_path, "base", kwh=1.0)
    a_run(tmp_path, "better", kwh=0.9, duration_s=3000.0)
    a_run(tmp_path, "worse", kwh=1.1)
    return tmp_path


def test_a_comparison_says_what_differs_and_what_cancels(output: Path):
    text = carbonmon("compare", "base", "better", "--output", output).stdout
    rows = {
        line.split("  ")[2].strip(): line.split() for line in text.splitlines() if line.startswith("    ")
    }
    assert rows["energy"][1:7] == ["1.00", "kWh", "900", "Wh", "−10.0", "%"]
    assert "−16.7 %" in text
    assert "their errors cancel in the difference" in text
    assert max(map(len, text.splitlines())) <= 100


def test_what_is_left_of_the_range_where_parts_differ_is_explained():
    base = of((gpu(), "counter", 500.0), (package(), "counter", 500.0))
    other = of((gpu(), "counter", 500.0), (package(), "counter", 100.0))
    text = section_text(forms.section(compare(base, other)))
    assert "the error of each cancels. The parts that they have in it differ" in " ".join(text.split())
    assert "errors cancel in the difference" not in text


def test_ids_are_whole_in_a_pipe(tmp_path: Path):
    for name in ("20261031-103000-a-long-name", "20261031-103001-a-long-name"):
        a_run(tmp_path, name, kwh=1.0)
    text = carbonmon("compare", *sorted(p.name for p in tmp_path.iterdir()), "--output", tmp_path).stdout
    assert text.count("20261031-103000-a-long-name") == 2, "in the title and in the head"
    assert ".." not in text


def test_of_a_run_on_several_nodes_all_are_compared(output: Path):
    for host in ("node-1", "node-2"):
        a_run(output, "job-7", host=host, folder=f"job-7.{host}")
    assert "+100.0 %" in carbonmon("compare", "base", "job-7", "--output", output).stdout


def test_several_runs_are_each_compared_with_the_first(output: Path):
    document = json.loads(
        carbonmon("compare", "base", "better", "worse", "--format", "json", "--output", output).stdout
    )
    assert document["schema"] == "carbonmon.comparison/1"
    ratios = {each["run"]["id"]: each["energy_j"]["ratio"] for each in document["comparisons"]}
    assert ratios == {"better": pytest.approx(-0.1), "worse": pytest.approx(0.1)}
    markdown = carbonmon(
        "compare", "base", "better", "worse", "--format", "markdown", "--output", output
    ).stdout
    assert markdown.count("## ") == 2
    assert "| energy | 1.00 kWh | 900 Wh | −10.0 % |" in markdown


@for_each_row(
    ("limit", "other", "code"),
    [("5%", "worse", 1), ("10.5", "worse", 0), ("5%", "better", 0), ("0%", "base", 0)],
)
def test_a_limit_fails_what_draws_more(output: Path, limit: str, other: str, code: int):
    carbonmon("compare", "base", other, "--fail-above", limit, "--output", output, code=code)


@for_each_row(
    ("arguments", "said"),
    [
        (("base",), "name two runs or more"),
        (("base", "nothing"), "compare: no run 'nothing'"),
        (("base", "worse", "--fail-above", "much"), "--fail-above: 'much' is not a difference in per cent"),
    ],
)
def test_a_mistake_is_named(output: Path, arguments: tuple[str, ...], said: str):
    text = carbonmon("compare", *arguments, "--output", output, code=2).output
    assert said in " ".join(text.split())

"""The comparison with other projects: what it reads of them, what needs a verdict, the page that is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.data_check import ours, theirs
from tools.data_check.comparison import Verdict, compare, read_verdicts
from tools.data_check.packages import Packages
from tools.data_check.page import page
from tools.data_check.theirs import Figure

PAGE = Path(__file__).parents[2] / "docs" / "develop" / "data-check.md"


class Recorded(Packages):
    """Files of the packages, cut down to a few rows."""

    def __init__(self, **texts: str) -> None:
        super().__init__(Path("/nonexistent"))
        self.texts = texts

    def text(self, package: str, member: str) -> str:
        return self.texts[Path(member).stem.replace("-", "_").replace(".", "_")]


def figure(key: str, value: float | str, source: str = "A", kind: str = "country") -> Figure:
    return Figure(kind, key, value, source)


def own(kind: str, key: str) -> ours.Own | None:
    return {"FR": ours.Own(40.0, row="FR"), "FRA": ours.Own(40.0, row="FR"), "hk": ours.Own("HKG")}.get(key)


@pytest.fixture(autouse=True)
def _bundled_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARBONMON_DATA", "package")


def test_a_difference_of_more_than_a_quarter_needs_a_verdict() -> None:
    found = compare(
        [figure("FR", 50.0), figure("FRA", 50.1), figure("XX", 1.0), figure("hk", "HKG")], own, []
    )
    assert [(each.theirs.key, each.verdict) for each in found.differences] == [("FRA", None)]
    (count,) = found.counts
    assert (count.figures, count.known, count.differ, count.unjudged) == (4, 3, 1, 1)


def test_a_place_is_the_same_or_differs() -> None:
    assert [each.theirs.value for each in compare([figure("hk", "CHN")], own, []).differences] == ["CHN"]


def test_the_first_verdict_that_fits_is_the_one_and_one_on_nothing_is_told() -> None:
    named = Verdict("country", (), ("FRA",), "ours", "named")
    other = Verdict("country", ("A",), (), "both", "all of A")
    stray = Verdict("CPU", (), (), "open", "nothing")
    found = compare([figure("FRA", 90.0), figure("FR", 90.0)], own, [named, other, stray])
    assert [each.verdict for each in found.differences] == [named, other]
    assert found.unused == (stray,)


def test_a_row_that_two_sources_deny_needs_a_verdict_of_its_own() -> None:
    for_all = Verdict("country", (), (), "ours", "all")
    both = [figure("FRA", 90.0), figure("FR", 90.0, "B")]
    assert compare(both[:1], own, [for_all]).denied == ()
    assert compare(both, own, [for_all]).denied == ("country: FR",)
    assert compare(both, own, [Verdict("country", (), ("FR",), "ours", "it"), for_all]).denied == ()


def test_a_verdict_without_a_reason_or_with_a_word_of_its_own_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "verdicts.csv"
    for row in ("country,,,ours,", "country,,,perhaps,so"):
        table.write_text(f"kind,sources,keys,verdict,reason\n{row}\n", encoding="utf-8")
        with pytest.raises(ValueError, match="has no reason, or none of ours, theirs, both, open"):
            read_verdicts(table)


# ---- the readers ----


def values(found: Iterator[Figure]) -> dict[str, float | str]:
    return {each.key: each.value for each in found}


def test_lightnings_table_is_read_without_running_it() -> None:
    text = """
import torch
_CUDA_FLOPS: dict[str, dict] = {
    "a100": {torch.float64: 9.7e12, torch.float32: 19.5e12, "tfloat32": 156e12, torch.int8: 624e12},
    "rtx 9999": {torch.float32: 1e12},
}
_TPU_FLOPS = {"v4": 275e12, "v9": 1e12}
"""
    assert values(theirs._lightning_peaks(Recorded(throughput=text))) == {
        **{
            f"A100 {form} 80GB, {key}": value
            for form in ("SXM4", "PCIe")
            for key, value in (("fp32", 19.5), ("tf32", 156))
        },
        "TPU v4, bf16": 275,
    }


def test_torchtitans_function_is_read_branch_by_branch() -> None:
    text = """
def get_peak_flops(device_name: str) -> float:
    if "A6000" in device_name:
        return 154.85e12
    elif "H100" in device_name:
        if "NVL" in device_name:
            return 835e12
        elif "PCIe" in device_name:
            return 756e12
        else:
            return 989e12
    elif "GB200" in device_name or "GB300" in device_name:
        return 2.5e15
    elif "new" in device_name:
        return 1e15
    else:
        return 312e12
"""
    assert values(theirs._torchtitan_peaks(Recorded(utils=text))) == {
        "RTX A6000, bf16": 154.85,
        "H100 NVL, bf16": 835,
        "H100 PCIe, bf16": 756,
        "H100 SXM5 80GB, bf16": 989,
        "GB200, bf16": 2500,
    }


def test_boavizta_takes_the_source_of_the_best_priority() -> None:
    head = "english_name,french_name,unit,source,priority,reference_year,name,WOR,FRA,DEU"
    rows = (",,,x,1,2019,gwp,,0.098,", ",,,y,3,2011,gwp,0.59,0.11,0.62", ",,,y,3,2011,ap,1,2,3")
    text = "\n".join((head, ",,,,,,country,World,France,Germany", *rows))
    found = list(theirs._boavizta_places(Recorded(electrical_mix=text)))
    assert [(each.key, each.value, each.year) for each in found] == [
        ("FRA", 98.0, "2019"),
        ("DEU", 620.0, "2011"),
    ]


def test_electricity_maps_zones_are_read_from_the_module() -> None:
    text = (
        'const data = { "CA-QC": { "zone": { "zoneName": "Qu\\xE9bec" }, '
        '"carbonIntensity": { "value": 41, "unit": "g" } }, '
        '"SE": { "zone": { "zoneName": "A \\"quoted\\" name", "x": 1 }, '
        '"carbonIntensity": { "value": 21, "unit": "g" } } };'
    )
    found = list(theirs._electricity_maps_places(Recorded(yearly_2025=text)))
    assert [(each.kind, each.key, each.value) for each in found] == [
        ("grid of a part", "CA-QC", 41.0),
        ("country", "SE", 21.0),
    ]


def test_a_figure_that_is_none_is_left_out() -> None:
    found = theirs._codecarbon_cpus(Recorded(cpu_power="Name,TDP\nA,15\nB,27.29.5\nC,\nD\u00a0E,7\n"))
    assert values(found) == {"A": 15.0, "D E": 7.0}


# ---- our side ----


def test_ours_are_what_the_look_ups_of_the_product_say() -> None:
    assert ours.own("country", "FRA") == ours.own("country", "FR")
    assert ours.own("country", "CF") is None  # the world stands in
    assert ours.own("CPU", "AMD EPYC 7742") == ours.Own(225.0, row="epyc 7742")
    assert ours.own("CPU", "a CPU of nobody") is None
    assert ours.own("peak", "H100 SXM5 80GB, bf16") == ours.Own(989.5)
    assert ours.own("cloud place", "aws:eu-west-3") == ours.Own("FRA", "Paris")
    part = ours.own("grid of a part", "ES-CN-TE")
    assert part is not None
    assert part.note.startswith("that of ES")
    making = ours.own("making of a GPU", "H100 SXM 80GB")
    assert making == ours.Own(273.0, "published: 164 to 273")


# ---- the page ----


def test_the_kept_page_has_every_verdict_and_lacks_none() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "**none**" not in text
    assert "without a verdict of their own: 0." in text
    for verdict in read_verdicts():
        assert verdict.reason in text
    for name, release in Packages.pins().items():
        assert f"| {name} | {release} |" in text


def test_the_page_gives_our_figure_and_how_far_theirs_lies_from_it() -> None:
    found = compare([figure("FRA", 60.0), figure("hk", "CHN", kind="cloud place")], own, [])
    text = page(found, {"a": ("1.0", "MIT")})
    assert "FRA 40, A +50%" in text
    assert "hk: HKG, A CHN" in text
    assert re.search(r"\| country \| A \| 1 \| 1 \| 1 \| 1 \|", text)

"""Words of users and of drivers: a choice, a place, a power in watts, or an error that helps."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import carbonmon
from carbonmon.core.config import parse_list
from carbonmon.core.errors import ConfigError
from carbonmon.grid.regions import resolve
from carbonmon.hardware.cpu_specs import cpu_spec, is_known_cpu, similar_cpus
from carbonmon.hardware.device_counts import parse_gpu_model
from carbonmon.hardware.found_gpus import FoundGpu, MigInstance
from carbonmon.hardware.gpu_selection import check_entries, choose
from carbonmon.hardware.spec_sheets import gpu_spec, similar_gpus
from tests.fuzz.strategies import TEXT
from tests.support.effort import examples

pytestmark = pytest.mark.timeout(300)

DATA = Path(carbonmon.__file__).parent / "data"
LONG = st.sampled_from(
    ["x" * 100_000, "ab" * 50_000, "".join(map(chr, range(0x4E00, 0x9000))), "\udce9" * 1000]
)
WORDS = TEXT | LONG | st.text(st.sampled_from("GPUMI-0123456789abcdef/,:. "), max_size=40)


def column(file: str, name: str) -> list[str]:
    with (DATA / file).open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    return [*rows[0], *(row[name] for row in rows)]


# ---- GPUs that are chosen ----

GPUS = [
    FoundGpu(
        "GPU-8932f937-0000-0000-0000-000000000000",
        0,
        "A100",
        "00000000:18",
        (MigInstance("MIG-1", 3 / 7, "3g"),),
    ),
    FoundGpu("GPU-8932f938-0000-0000-0000-000000000000", 1, "T4", "00000000:3b"),
]


@given(WORDS, st.booleans())
@examples(200)
def test_any_choice_of_gpus_gives_each_at_most_once_with_a_share_of_it(words: str, by_user: bool):
    if by_user:
        try:
            entries = parse_list(words, "--gpus")
            check_entries(entries)
        except ConfigError as error:
            assert str(error).startswith("--gpus")
            return
        chosen, notes = choose(GPUS, entries, {})
    else:
        chosen, notes = choose(GPUS, None, {"CUDA_VISIBLE_DEVICES": words})
    ids = [pick.gpu.uuid for pick in chosen]
    assert len(set(ids)) == len(ids)
    assert all(0.0 < pick.share_ratio <= 1.0 for pick in chosen)
    assert all(isinstance(note, str) for note in notes)


@given(WORDS)
@examples(100)
def test_any_model_of_a_gpu_has_a_name_and_a_count_or_is_refused(words: str):
    try:
        name, count = parse_gpu_model(words)
    except ConfigError as error:
        assert str(error).startswith("--gpu-model")
    else:
        assert name.strip()
        assert 1 <= count <= 999


# ---- places ----


@given(WORDS | st.builds("{}:{}".format, st.sampled_from(["aws", "gcp", "", "x"]), WORDS))
@examples(80)
def test_any_words_are_a_place_or_are_refused_quickly(words: str):
    began_s = time.perf_counter()
    try:
        region = resolve(words)
    except ConfigError as error:
        assert "region" in str(error)
        assert len(str(error)) < 2000
    else:
        intensity = region.intensity
        assert 0.0 <= intensity.low_g_per_kwh <= intensity.g_per_kwh <= intensity.high_g_per_kwh < 5000.0
    assert time.perf_counter() - began_s < 5.0


@pytest.mark.parametrize("file", ["carbon_intensity.csv", "cloud_regions.csv"])
def test_every_place_of_the_tables_is_found_and_the_names_of_columns_are_none(file: str):
    with (DATA / file).open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    codes = {
        row["zone"] if file.startswith("carbon") else f"{row['provider']}:{row['region']}" for row in rows
    }
    for code in codes:
        assert math.isfinite(resolve(code).intensity.g_per_kwh)
    for name in (*rows[0], ""):
        with pytest.raises(ConfigError):
            resolve(name)


# ---- specifications ----

CPUS = WORDS | st.sampled_from(column("cpus.csv", "match_key")) | st.sampled_from(column("cpus.csv", "name"))
GPU_NAMES = WORDS | st.sampled_from(column("gpus.csv", "model"))


@given(
    CPUS, st.sampled_from(["", ",", ",95", '"', "\n", " CPU @ 2.40GHz"]), st.booleans(), st.integers(0, 10**6)
)
@examples(200)
def test_any_cpu_has_a_possible_power(name: str, end: str, virtual: bool, cores: int):
    spec = cpu_spec(name + end, visible_threads=2 * cores, physical_cores=cores, virtual=virtual)
    assert 0.0 < spec.tdp_w < math.inf
    assert 0.0 <= spec.uncertainty.low_ratio <= 1.0
    is_known_cpu(name + end)
    assert len(similar_cpus(name + end)) <= 3


@given(GPU_NAMES, st.sampled_from(["", "-12Q", " 80GB", "\n", "("]))
@examples(100)
def test_any_gpu_has_a_possible_power_or_none(name: str, end: str):
    spec = gpu_spec(name + end)
    assert spec is None or 0.0 < spec.tdp_w < math.inf
    assert len(similar_gpus(name + end)) <= 3


@pytest.mark.parametrize("name", ["match_key", "Match_Key", "model", "vendor"])
def test_the_name_of_a_column_is_no_model(name: str):
    assert not is_known_cpu(name)
    assert gpu_spec(name) is None

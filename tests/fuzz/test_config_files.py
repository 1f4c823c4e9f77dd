"""TOML files of options: any document gives checked options, or an error that names file and key."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.cli import options
from carbonmon.core.config import PUE_WORDS, WUE_WORDS, Config
from carbonmon.core.documents import LONGEST_TOML_BYTES as LONGEST_BYTES
from carbonmon.core.errors import ConfigError
from tests.fuzz.folders import invoke, scratch
from tests.fuzz.strategies import damaged_bytes
from tests.support.effort import examples
from tests.support.rows import for_each_row

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
KEYS = (
    st.sampled_from([name for name in options.RUN_OPTIONS if name not in ("log-level", "log-format")])
    | st.sampled_from(["log-level", "run_id", "gpu_model", "label.team", "label.a.b", "regoin", "region.x"])
    | UNICODE.map(json.dumps)
)
TEXTS = UNICODE | st.sampled_from(
    ["", "nan", "1e999", "-1", "0,1", "GPU-1", "FR", "nvml,,rapl", "a=b", "127.0.0.1:0", "\0", "a\0b", "²"]
)
SCALARS = st.one_of(
    TEXTS.map(json.dumps),
    st.integers().map(str),
    st.floats().map(lambda number: repr(number).replace("e", "e0") if "e" in repr(number) else repr(number)),
    st.sampled_from(
        ["true", "false", "nan", "-inf", "1e400", "2026-11-21", "07:32:00", "1979-05-27T07:32:00Z"]
    ),
    st.sampled_from(["0x" + "f" * 5000, "9" * 5000, "0b1", "1_000", "'''a\nb'''"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(UNICODE.map(json.dumps), inner, max_size=3).map(
            lambda table: f"{{ {', '.join(f'{key} = {value}' for key, value in table.items())} }}"
        )
    ),
    max_leaves=5,
)
LINES = st.builds("{} = {}".format, KEYS, VALUES) | st.sampled_from(
    ["[label]", "[[label]]", "[region]", "# a"]
)
DOCUMENTS = st.lists(LINES, max_size=4).map("\n".join)
GOOD = 'region = "FR"\npue = 1.5\ngpus = [0, "GPU-1"]\nlabel = { team = "vision", cost = 7 }\nquiet = true\n'


@click.command()
@options.with_options(*options.RUN_OPTIONS)
def parse(**values: Any) -> None:
    """Shows the checked options of a run, as `carbonmon run` has them before anything else happens."""
    config = options.to_config(values)
    check(config)
    click.echo(repr(config))


def check(config: Config) -> None:
    watts = [watts for watts in (config.gpu_tdp_w, config.cpu_tdp_w) if watts is not None]
    assert all(0.1 <= value <= 100_000 for value in watts)
    assert config.pue in PUE_WORDS or 1.0 <= float(config.pue) <= 10.0
    assert config.wue is None or config.wue in WUE_WORDS or 0.0 <= float(config.wue) <= 100.0
    assert 0.05 <= config.interval_s <= 3600.0
    assert config.intensity_g_per_kwh is None or 0.0 <= config.intensity_g_per_kwh <= 5000.0
    assert 0 <= config.listen[1] <= 65535
    assert all("\0" not in str(value) for value in (config.output, config.sysfs, config.name, config.region))
    assert all(key and "=" not in key and math.isfinite(len(value)) for key, value in config.labels)


def read_or_refuse(data: bytes) -> None:
    with scratch() as folder:
        path = folder / "options.toml"
        path.write_bytes(data)
        try:
            table = options.read_toml(path)
        except ConfigError as error:
            assert str(path) in str(error)
            assert len(str(error)) < 2500
            assert invoke(parse, "--config", path).exit_code == 2
            return
        assert all("-" not in key for key in table)
        done = invoke(parse, "--config", path)
        if done.exit_code == 2:
            assert "exclude one another" in done.output or "--resume names the run" in done.output


@given(DOCUMENTS)
@examples(200)
def test_any_toml_is_options_or_an_error_that_names_the_file(document: str):
    read_or_refuse(document.encode())


@given(st.binary(max_size=50) | UNICODE.map(str.encode) | damaged_bytes(GOOD.encode()))
@examples(150)
def test_any_bytes_are_options_or_an_error_that_names_the_file(data: bytes):
    read_or_refuse(data)


@for_each_row(
    ("text", "expected"),
    [
        ("pue = " + "9" * 5000, "not valid TOML"),
        ("pue = 0x" + "f" * 5000, "'pue' is too large a number"),
        ("attach = 0", "'attach'"),
        ("interval = nan", "'interval': --interval"),
        ("log-level = 'loud'", "'log-level'"),
        ("run-id = 'a'\nrun_id = 'b'", "given twice"),
        ('output = "a\\u0000b"', "'output' holds a NUL character"),
        ("label = { 'a=b' = 'c' }", "equals sign"),
        ("label = { 'a b' = 'c' }", "'label': --label"),
        ("label = { team = { name = 'vision' } }", "'label.team' must be a text or a number"),
        ("[label.team.name]", "'label.team' must be a text or a number"),
        ("gpus = [true]", "'gpus' must be a text or a number"),
        ("sensor = [['nvml']]", "'sensor' must be a text or a number"),
        ("region = 2026-11-21", "'region' must be a text or a number"),
        ("a" + ".a" * 90 + " = 1", "[a] is no option"),
        ("region = 'FR'\n" + "a" + ".a" * 400_000 + " = 1", "line 2 has more than 100 dots"),
        ("[a" + ".a" * 400_000 + "]\nb = 1", "line 1 has more than 100 dots"),
        ("label = { a" + ".a" * 400_000 + " = 1 }", "line 1 has more than 100 dots"),
        ("label = " + "[" * 5000, "not valid TOML"),
        ("# " + "x" * LONGEST_BYTES, "it is longer than"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_key(text: str, expected: str):
    with scratch() as folder:
        path = folder / "options.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as refused:
            options.read_toml(path)
        assert str(path) in str(refused.value)
        assert expected in str(refused.value)


@pytest.mark.parametrize("place", ["/dev/zero", "/proc/self/mem", "/nowhere"])
def test_what_is_no_file_of_options_is_named_and_not_read_for_ever(place: str):
    with pytest.raises(ConfigError, match=place):
        options.read_toml(Path(place))
    assert place in invoke(parse, "--config", place).output


def test_a_good_file_is_read():
    with scratch() as folder:
        (folder / "options.toml").write_text(GOOD)
        assert options.read_toml(folder / "options.toml") == {
            "region": "FR",
            "pue": "1.5",
            "gpus": "0,GPU-1",
            "label": ("team=vision", "cost=7"),
            "quiet": True,
        }

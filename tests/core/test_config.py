"""The user's words, parsed: nothing that is no number, place or name comes through."""

from __future__ import annotations

import math
import re
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.config import (
    Config,
    check_labels,
    parse_intensity,
    parse_label,
    parse_list,
    parse_listen,
    parse_number,
    parse_run_id,
)
from carbonmon.core.errors import ConfigError
from carbonmon.service import wiring
from tests.support.rows import for_each_row

ANY_NUMBER = st.floats().map(str) | st.integers().map(str) | st.sampled_from(["nan", "inf", "-inf", "1e999"])


@given(ANY_NUMBER | st.text(max_size=8), st.floats(0, 100), st.floats(100, 1e6) | st.just(math.inf))
def test_a_number_is_finite_and_within_its_bounds_or_an_error(text: str, low: float, high: float):
    try:
        value = parse_number(text, "--option", "a figure", low, high)
    except ConfigError as error:
        assert str(error).startswith(f"--option: {text!r} is not a figure: give a number ")
    else:
        assert math.isfinite(value)
        assert low <= value <= high


@given(st.floats(0, 1e6))
def test_a_number_within_its_bounds_comes_back_as_it_was_written(value: float):
    assert parse_number(repr(value), "--option", "a figure", 0.0, 1e6) == value


def test_the_error_says_which_numbers_fit():
    with pytest.raises(ConfigError, match=r"give a number of at least 0.1"):
        parse_number("0", "--watts", "a power", 0.1)
    with pytest.raises(ConfigError, match=r"give a number from 1 to 10"):
        parse_number("11", "--pue", "a PUE", 1, 10)


HOSTS = st.sampled_from(["localhost", "node-1.cluster.example", "0.0.0.0"]) | st.builds(
    str, st.builds(IPv4Address, st.integers(0, 2**32 - 1))
)


@given(HOSTS, st.integers(0, 65535))
def test_an_address_comes_back_as_it_was_written(host: str, port: int):
    assert parse_listen(f"{host}:{port}") == (host, port)


@given(st.integers(0, 2**128 - 1), st.integers(0, 65535))
def test_an_ipv6_address_comes_back_without_its_brackets(number: int, port: int):
    host = str(IPv6Address(number))
    assert parse_listen(f"[{host}]:{port}") == (host, port)


def test_a_port_alone_is_every_address():
    assert parse_listen(":9877") == ("0.0.0.0", 9877)


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_an_error_that_shows_one(text: str):
    try:
        host, port = parse_listen(text)
    except ConfigError as error:
        assert re.search(r"127\.0\.0\.1:[1-9]\d{0,4}", str(error))
    else:
        assert host
        assert 0 <= port <= 65535


@for_each_row(
    "text", ["", "9877", "::1:9877", "localhost", "localhost:", "localhost:65536", "a b:1", "h:1\n", "[]:1"]
)
def test_what_is_no_address_and_port_is_refused(text: str):
    with pytest.raises(ConfigError, match="ADDRESS:PORT"):
        parse_listen(text)


@given(st.text(max_size=70))
def test_a_run_id_is_safe_as_the_name_of_a_folder_or_refused(text: str):
    try:
        run_id = parse_run_id(text)
    except ConfigError:
        return
    assert run_id == text
    assert "/" not in run_id and run_id not in ("", ".", "..") and len(run_id) <= 64


def test_the_word_for_the_newest_run_is_no_id():
    with pytest.raises(ConfigError, match="'last' is the word for the newest run"):
        parse_run_id("last")


@given(st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters="="), min_size=1), st.text())
def test_a_label_is_split_at_its_first_equals_sign(key: str, value: str):
    assert parse_label(f"{key}={value}") == (key, value)


def test_labels_that_have_no_room_in_a_run_are_refused():
    check_labels((("team", "vision"), ("note", "x" * 1000)))
    with pytest.raises(ConfigError, match="1028 bytes together, and a run has room for 1024"):
        check_labels((("team", "vision"), ("note", "x" * 1014)))


@pytest.mark.parametrize("key", ["run_id", "run-id", "uid", "job", "phase", "__meta"])
def test_a_label_that_the_metrics_have_already_is_refused_with_another_name(key: str):
    with pytest.raises(ConfigError, match=rf"'{key}' is a name that the metrics have .* my_[a-z_]+$"):
        check_labels(((key, "x"),))
    check_labels((("user", "ada"), ("job_name", "x")))


@pytest.mark.parametrize("text", ["", "team", "=vision", "my team=vision"])
def test_what_is_no_label_is_refused(text: str):
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_label(text)


@given(st.lists(st.from_regex(r"[a-z0-9:/.-]+", fullmatch=True), min_size=1))
def test_a_list_comes_back_entry_by_entry(entries: list[str]):
    assert parse_list(",".join(entries), "--sensor") == tuple(entries)
    assert parse_list(" , ".join(entries), "--sensor") == tuple(entries)


def test_an_empty_list_is_none_and_an_empty_entry_a_mistake():
    assert parse_list(" ", "--sensor") == ()
    for text in (",", "nvml,", "nvml,,rapl"):
        with pytest.raises(ConfigError, match="empty entry"):
            parse_list(text, "--sensor")


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        Config().interval_s = 2.0  # type: ignore[misc]


def test_exporters_that_may_wait_for_a_server_end_behind_those_that_write_files():
    entries = ("otlp:http://127.0.0.1:1", "summary", "pushgateway:http://127.0.0.1:2", "prometheus")
    ordered = wiring._files_first(entries)
    assert ordered == ["summary", "prometheus", "otlp:http://127.0.0.1:1", "pushgateway:http://127.0.0.1:2"]


@for_each_row(
    ("text", "g_per_kwh"),
    [
        ("56", 56.0),
        ("0", 0.0),
        ("1", 1.0),
        ("0.4kg", 400.0),
        ("0.4 kg/kWh", 400.0),
        ("0.4g", 0.4),
        ("400 gCO2e/kWh", 400.0),
        ("4e2g", 400.0),
    ],
)
def test_an_intensity_is_taken_in_grams_or_in_the_unit_behind_it(text: str, g_per_kwh: float):
    assert parse_intensity(text) == pytest.approx(g_per_kwh)


@for_each_row(
    "text", ["0.4", "0.999", "6kg", "-5", "-5g", "5001", "1.2.3g", "400mg", "400 g/MWh", "nan", "g", ""]
)
def test_an_intensity_that_may_not_be_meant_is_refused(text: str):
    with pytest.raises(ConfigError, match="--intensity: "):
        parse_intensity(text)

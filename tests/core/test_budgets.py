"""Budgets as users write them, and when they are reached."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.core.budget_watch import DAY_S, Amounts, BudgetWatch, day_of
from carbonmon.core.budgets import (
    Action,
    amount_text,
    check_currencies,
    parse_action,
    parse_budget,
    parse_by,
    reached_text,
)
from carbonmon.core.errors import ConfigError
from tests.support.records import forecast
from tests.support.rows import for_each_row

NOON_S = 20_000 * DAY_S + DAY_S / 2


@for_each_row(
    ("text", "kind", "limit", "unit", "per_day"),
    [
        ("2kWh", "energy", 7.2e6, "joules", False),
        ("1.5 Wh", "energy", 5400.0, "joules", False),
        ("3MWh/day", "energy", 1.08e10, "joules", True),
        ("5kJ", "energy", 5000.0, "joules", False),
        ("1e3J", "energy", 1000.0, "joules", False),
        ("500 g / day", "emissions", 500.0, "grams", True),
        ("0.1t", "emissions", 1e5, "grams", False),
        ("5EUR", "cost", 5.0, "EUR", False),
        ("90min", "time", 5400.0, "seconds", False),
        ("1d", "time", 86400.0, "seconds", False),
    ],
)
def test_a_budget_has_an_amount_and_a_unit(text: str, kind: str, limit: float, unit: str, per_day: bool):
    found = parse_budget(text)
    assert found[1:] == (kind, pytest.approx(limit), unit, per_day)
    assert parse_budget(found.text) == found


@for_each_row(
    ("text", "said"),
    [
        ("2", "has no unit"),
        ("2/day", "has no unit"),
        ("kWh", "no amount with a unit"),
        ("", "no amount with a unit"),
        ("two kWh", "no amount with a unit"),
        ("1,5kWh", "is no number"),
        ("-1kWh", "more than 0"),
        ("0kg", "more than 0"),
        ("nan kWh", "more than 0"),
        ("inf kWh", "more than 0"),
        ("1e308MWh", "more than 0 and finite"),
        ("1e999kWh", "more than 0"),
        ("2kWh/week", "for a day of UTC"),
        ("2kWh/", "for a day of UTC"),
        ("2kwh", "did you mean 'kWh'?"),
        ("2KWH", "did you mean 'kWh'?"),
        ("2eur", "did you mean 'EUR'?"),
        ("2Euro", "no unit"),
        ("2miles", "or a currency's code"),
    ],
)
def test_a_budget_that_is_none_is_told_in_one_sentence(text: str, said: str):
    with pytest.raises(ConfigError) as error:
        parse_budget(text)
    assert said in str(error.value)
    assert str(error.value).startswith("--budget: ")
    assert "\n" not in str(error.value)


@given(st.text(max_size=20))
def test_any_text_is_a_budget_or_a_mistake(text: str):
    try:
        found = parse_budget(text)
    except ConfigError:
        return
    assert 0.0 < found.limit < float("inf")


@for_each_row(
    ("text", "said"),
    [
        ("5EUR", "there is no price of a kWh"),
        ("5USD", "not the currency of the price (EUR)"),
    ],
)
def test_a_budget_of_money_needs_its_price(text: str, said: str):
    with pytest.raises(ConfigError) as error:
        check_currencies([parse_budget(text)], "EUR", has_price=text == "5USD")
    assert said in str(error.value)


def test_an_action_is_a_word_a_command_or_a_signal():
    assert parse_action("warn").kind == "warn"
    assert parse_action("stop").kind == "stop"
    assert parse_action("signal:SIGUSR1").number == signal.SIGUSR1
    assert parse_action("signal:TERM").text == "signal:TERM"
    assert parse_action("notify:mail -s 'a $budget; rm' me").command == ("mail", "-s", "a $budget; rm", "me")
    assert parse_by("forecast") == "forecast"


@for_each_row(
    ("text", "said"),
    [
        ("signal:FOO", "is no signal for a job; there are HUP"),
        ("signal:STOP", "is no signal for a job"),
        ("signal:", "is no signal for a job"),
        ("notify:", "lacks its command"),
        ("notify:  ", "lacks its command"),
        ("notify:say 'hi", "close the quotation"),
        ("kill", "none of warn, notify:COMMAND"),
        ("stop:now", "none of warn, notify:COMMAND"),
    ],
)
def test_an_action_that_is_none_is_told(text: str, said: str):
    with pytest.raises(ConfigError) as error:
        parse_action(text)
    assert said in str(error.value)


def watching(*texts: str, by: str = "total", action: str = "warn") -> BudgetWatch:
    return BudgetWatch([parse_budget(text) for text in texts], parse_action(action), parse_by(by), NOON_S)


def test_each_budget_is_reached_once_and_by_its_own_amount():
    watch = watching("1kJ", "2kJ", "10g")
    assert watch.look(Amounts(999.0, 1.0), NOON_S) == []
    assert [state.text for state in watch.look(Amounts(1000.0, 1.0), NOON_S + 1)] == ["1kJ"]
    assert [state.text for state in watch.look(Amounts(2500.0, 12.0), NOON_S + 2)] == ["2kJ", "10g"]
    assert watch.look(Amounts(9000.0, 99.0), NOON_S + 3) == []
    first, *_ = watch.states(Amounts(9000.0, 99.0))
    assert (first.reached_at_s, first.spent_then, first.spent) == (NOON_S + 1, 1000.0, 9000.0)
    assert first.reached_by == "total"


@given(st.lists(st.floats(0.0, 500.0), max_size=60))
def test_a_budget_is_reached_with_the_first_sample_at_or_above_it_and_never_before(steps: list[float]):
    watch, spent = watching("1kJ"), 0.0
    reached: list[float] = []
    for joules in steps:
        spent += joules
        reached += [state.spent for state in watch.look(Amounts(spent), NOON_S)]
        assert bool(reached) == (spent >= 1000.0)
    assert len(reached) <= 1
    assert all(1000.0 <= each < 1500.0 for each in reached), "within the energy of one interval"


def test_a_budget_of_a_day_counts_the_other_runs_and_begins_anew_at_midnight():
    watch = watching("1kJ/day")
    day_s = day_of(NOON_S)
    watch.others(day_s, Amounts(600.0))
    assert watch.look(Amounts(300.0), NOON_S) == []
    (state,) = watch.look(Amounts(400.0), NOON_S + 1)
    assert state.spent == 1000.0
    midnight_s = day_s + DAY_S
    assert watch.look(Amounts(1300.0), midnight_s) == []
    (today,) = watch.states(Amounts(1400.0))
    assert (today.spent, today.reached_at_s) == (100.0, None)
    watch.others(day_s, Amounts(5000.0))
    assert watch.look(Amounts(1500.0), midnight_s + 1) == [], "that was another day's count"
    watch.others(midnight_s, Amounts(850.0))
    assert [each.spent for each in watch.look(Amounts(1500.0), midnight_s + 2)] == [1050.0]


def test_what_a_resumed_run_drew_before_today_is_not_today_s():
    watch = watching("1kJ/day")
    watch.others(day_of(NOON_S), Amounts(), own_before=Amounts(5000.0))
    assert watch.look(Amounts(5900.0), NOON_S) == []
    assert [state.spent for state in watch.look(Amounts(6000.0), NOON_S)] == [1000.0]


def test_by_forecast_acts_when_even_the_low_end_is_above_the_budget():
    low_j = forecast().energy_j.low
    above, below = f"{low_j + 1:.0f}J", f"{low_j - 1:.0f}J"
    watch = watching(above, below, by="forecast")
    (state,) = watch.look(Amounts(100.0), NOON_S, forecast())
    assert (state.text, state.reached_by, state.spent_then) == (below, "forecast", 100.0)
    assert [each.reached_by for each in watch.look(Amounts(low_j + 1), NOON_S, forecast())] == ["total"]
    assert watching(below).look(Amounts(100.0), NOON_S, forecast()) == [], "only where it was asked for"
    assert watching(f"{below}/day", by="forecast").look(Amounts(100.0), NOON_S, forecast()) == []
    assert watching(below, by="forecast").look(Amounts(100.0), NOON_S, None) == []


def test_what_a_stop_still_takes_counts():
    watch = watching("1kJ", action="stop")
    assert watch.look(Amounts(700.0), NOON_S, None, Amounts(200.0)) == []
    (state,) = watch.look(Amounts(800.0), NOON_S, None, Amounts(200.0))
    assert "still takes (0.8 kJ spent)" in reached_text(state)


def test_what_an_earlier_monitor_has_acted_upon_stays_noted():
    earlier = watching("1kJ", "5g")
    earlier.look(Amounts(1000.0, 5.0), NOON_S - 60)
    watch = watching("1kJ", "2kJ")
    watch.restore(earlier.states(Amounts(1000.0, 5.0)))
    _, first, second = watch.states(Amounts(1000.0, 5.0))
    assert watch.was_reached(first)
    assert not watch.was_reached(second)
    (again,) = watch.look(Amounts(1100.0, 5.5), NOON_S)
    assert "was spent already when the run was resumed" in reached_text(again, has_begun_so=True)
    assert [state.text for state in watch.states(Amounts(1100.0, 5.5))] == ["5g", "1kJ", "2kJ"]


def test_a_negative_price_spends_nothing():
    watch = watching("5EUR")
    assert watch.look(Amounts(cost=-1.0), NOON_S) == []
    assert watch.states(Amounts(cost=-1.0))[0].spent == 0.0


def test_an_amount_is_shown_in_the_budget_s_own_unit():
    assert amount_text(7.2e6, "3kWh/day", "joules") == "2 kWh"
    assert amount_text(2.5, "5EUR", "EUR") == "2.5 EUR"
    assert amount_text(7.2, "whatever\n", "joules") == "7.2 joules"
    assert Action().text == "warn"


def test_a_budget_that_is_given_twice_is_one_also_in_another_unit():
    found = watching("2kWh", "2000Wh", "0.1kWh", "100Wh", "2kWh/day", "7.2MJ")
    assert [budget.text for budget in found.budgets] == ["2kWh", "0.1kWh", "2kWh/day"]
    assert len(found.look(Amounts(energy_j=7.2e6), NOON_S)) == 3
    later = watching("2000Wh")
    later.restore(found.states(Amounts(energy_j=7.2e6)))
    states = later.states(Amounts(energy_j=7.2e6))
    assert [state.text for state in states] == ["0.1kWh", "2kWh/day", "2000Wh"]
    assert later.was_reached(states[-1])

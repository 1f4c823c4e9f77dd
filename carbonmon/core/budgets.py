"""Budgets of a run, as users write them: `2kWh`, `1kg`, `5EUR`, `3h`, each perhaps `/day`; pure.

A budget is of the run on this node: joules of the devices without PUE, grams and money with it, seconds of
the run's duration. A day is UTC's. `budget_watch.py` says when one is reached.
"""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Sequence
from typing import Literal

from carbonmon.core.errors import ConfigError
from carbonmon.core.hints import meant
from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple

Kind = Literal["energy", "emissions", "cost", "time"]
KINDS: tuple[Kind, ...] = ("energy", "emissions", "cost", "time")

By = Literal["total", "forecast"]
BYS: tuple[By, ...] = ("total", "forecast")

_UNITS: dict[str, tuple[Kind, float]] = {
    "J": ("energy", 1.0),
    "kJ": ("energy", 1e3),
    "MJ": ("energy", 1e6),
    "Wh": ("energy", 3.6e3),
    "kWh": ("energy", 3.6e6),
    "MWh": ("energy", 3.6e9),
    "g": ("emissions", 1.0),
    "kg": ("emissions", 1e3),
    "t": ("emissions", 1e6),
    "s": ("time", 1.0),
    "min": ("time", 60.0),
    "h": ("time", 3600.0),
    "d": ("time", 86400.0),
}
"""What each unit measures, and how many joules, grams or seconds it is. Money has the currency's code."""

BASE_UNITS: dict[Kind, str] = {"energy": "joules", "emissions": "grams", "time": "seconds"}
"""The unit of the limit of each kind; of money it is the currency."""

_BY_LOWER = {unit.lower(): unit for unit in _UNITS}

_BUDGET = pattern(
    r"\s*([^\s/a-z]*(?:e[+-]?\d+)?|[+-]?(?:nan|inf|infinity))\s*([^\W\d_]*)\s*(?:/\s*(.*?))?\s*", re.I
)
_CURRENCY = pattern(r"[A-Z]{3}")
_EXAMPLES = "give for example 2kWh, 1kg, 5EUR or 3h, or a limit a day: 2kWh/day"

SIGNALS = {
    name: signal.Signals[f"SIG{name}"] for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "KILL")
}
"""What `--on-budget signal:NAME` may send: what ends a job, or has it save a checkpoint."""


class Budget(NamedTuple):
    """A limit in joules, grams, seconds or a currency's units; `text` is how the user wrote it."""

    text: str
    kind: Kind
    limit: float
    unit: str
    per_day: bool = False


class Action(NamedTuple):
    """What to do when a budget is reached: `warn`, `notify` by a command, `signal` the job, `stop` training.

    `text` is how the user wrote it. The warning comes with each of them.
    """

    text: str = "warn"
    kind: Literal["warn", "notify", "signal", "stop"] = "warn"
    command: tuple[str, ...] = ()
    number: int = 0


WARN = Action()


class BudgetState(NamedTuple):
    """A budget and what is spent of it, in its unit; `spent` of one a day is that of all runs of the day.

    `reached_at_s` is the Unix time at which it was acted upon, None until then; `reached_by` says whether the
    total or the forecast had reached it, and `spent_then` is what was spent.
    """

    text: str
    kind: Kind
    limit: float
    unit: str
    per_day: bool
    spent: float
    action: str
    reached_at_s: float | None = None
    reached_by: By | None = None
    spent_then: float | None = None


def is_same(one: Budget | BudgetState, other: Budget | BudgetState) -> bool:
    """Whether two budgets are one, as 2kWh and 2000Wh are."""
    of_one, of_other = (one.kind, one.unit, one.per_day), (other.kind, other.unit, other.per_day)
    return of_one == of_other and math.isclose(one.limit, other.limit)


def distinct(budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    """Each budget once, as it was written first."""
    found: list[Budget] = []
    for budget in budgets:
        if not any(is_same(budget, other) for other in found):
            found.append(budget)
    return tuple(found)


def amount_text(amount: float, budget: str, unit: str) -> str:
    """An amount for people in the unit of a budget, which is a text; `unit` is the amount's own."""
    match = _BUDGET.fullmatch(budget)
    name = match[2] if match is not None and match[2] in _UNITS else unit
    _, factor = _UNITS.get(name, ("", 1.0))
    return f"{amount / factor:.4g} {name}"


def reached_text(state: BudgetState, has_begun_so: bool = False) -> str:
    """A budget that was just reached, for people. `has_begun_so`: it was when the run was resumed."""
    spent = amount_text(state.spent, state.text, state.unit) + " spent"
    if state.per_day:
        spent += " by all runs of the day"
    if state.reached_by == "forecast":
        return f"budget {state.text} will be exceeded, by the low end of the forecast ({spent} until now)"
    when = "was spent already when the run was resumed" if has_begun_so else "is reached"
    if state.spent < state.limit:
        when = "will be reached by the steps, and the validation, that a stop still takes"
    return f"budget {state.text} {when} ({spent})"


def parse_budget(text: str) -> Budget:
    """A budget as `--budget` takes it; raises `ConfigError`."""
    match = _BUDGET.fullmatch(text)
    if match is None or not match[1]:
        raise ConfigError(f"--budget: {text!r:.60} is no amount with a unit: {_EXAMPLES}")
    number, unit, period = match[1], match[2], match[3]
    try:
        amount = float(number)
    except ValueError:
        raise ConfigError(f"--budget: {text!r:.60}: {number!r:.30} is no number: {_EXAMPLES}") from None
    if not unit:
        raise ConfigError(f"--budget: {text!r:.60} has no unit: {_EXAMPLES}")
    if not (math.isfinite(amount) and amount > 0.0):
        raise ConfigError(f"--budget: {text!r:.60}: a budget is more than 0 and finite: {_EXAMPLES}")
    if period is not None and period != "day":
        raise ConfigError(f"--budget: {text!r:.60}: a budget is for the run, or for a day of UTC (/day)")
    if unit not in _UNITS and unit.lower() in _BY_LOWER:  # before currencies: nobody pays in KWH
        raise ConfigError(
            f"--budget: {text!r:.60}: {unit!r:.20} is no unit; did you mean {_BY_LOWER[unit.lower()]!r}?"
        )
    if unit in _UNITS:
        kind, factor = _UNITS[unit]
        if not 0.0 < amount * factor < math.inf:
            raise ConfigError(f"--budget: {text!r:.60}: a budget is more than 0 and finite: {_EXAMPLES}")
        return Budget(
            _written(number, unit, period), kind, amount * factor, BASE_UNITS[kind], period is not None
        )
    if _CURRENCY.fullmatch(unit):
        return Budget(_written(number, unit, period), "cost", amount, unit, period is not None)
    raise ConfigError(f"--budget: {text!r:.60}: {unit!r:.20} is no unit; {_meant_unit(unit)}")


def parse_action(text: str) -> Action:
    """What `--on-budget` takes: `warn`, `notify:COMMAND`, `signal:NAME` or `stop`; raises `ConfigError`.

    The command is split into words as a shell does it, and no shell runs it: no variables, no pipes.
    """
    kind, colon, rest = text.strip().partition(":")
    if kind in ("warn", "stop") and not colon:
        return Action(kind, kind)  # type: ignore[arg-type]
    if kind == "notify" and colon:
        try:
            import shlex

            words = tuple(shlex.split(rest))
        except ValueError as error:
            raise ConfigError(f"--on-budget: {text!r:.60}: {error}: close the quotation") from None
        if not words:
            raise ConfigError(
                "--on-budget: notify: lacks its command; give for example notify:'mail -s budget me'"
            )
        return Action(text.strip(), "notify", command=words)
    if kind == "signal" and colon:
        number = SIGNALS.get(rest.removeprefix("SIG"))
        if number is None:
            raise ConfigError(
                f"--on-budget: {rest!r:.20} is no signal for a job; there are {', '.join(SIGNALS)}"
            )
        return Action(f"signal:{rest.removeprefix('SIG')}", "signal", number=int(number))
    raise ConfigError(
        f"--on-budget: {text!r:.60} is none of warn, notify:COMMAND, signal:NAME (signal:TERM) and stop"
    )


def parse_by(text: str) -> By:
    """What `--by` takes; raises `ConfigError`."""
    for by in BYS:
        if text == by:
            return by
    raise ConfigError(f"--by: {text!r:.40} is none of {', '.join(BYS)}")


def check_currencies(budgets: Sequence[Budget], currency: str | None, has_price: bool) -> None:
    """Raise `ConfigError` for a budget of money whose price is not known."""
    for budget in budgets:
        if budget.kind != "cost":
            continue
        if not has_price or not currency:
            raise ConfigError(
                f"--budget: {budget.text}: there is no price of a kWh: give --price and "
                f"--currency {budget.unit}"
            )
        if budget.unit != currency:
            raise ConfigError(
                f"--budget: {budget.text}: {budget.unit} is not the currency of the price ({currency}): "
                f"give it in {currency}"
            )


def _written(number: str, unit: str, period: str | None) -> str:
    return f"{number}{unit}" + (f"/{period}" if period else "")


def _meant_unit(unit: str) -> str:
    if _CURRENCY.fullmatch(unit.upper()):
        return f"did you mean {unit.upper()!r}?"
    return f"{meant(unit, _UNITS)} or a currency's code, as EUR"

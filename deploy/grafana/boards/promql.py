"""Pieces of queries. `$__range` is Grafana's time range, `$__rate_interval` at least four scrapes."""

from __future__ import annotations

MEASURED = 'method!="tdp"'


def series(metric: str, *matchers: str) -> str:
    """The series of a metric as they are now."""
    return f"{metric}{{{', '.join(matchers)}}}" if matchers else metric


def last(metric: str, *matchers: str) -> str:
    """The newest values within the time range, also of a run or a node that is gone by now.

    carbonmon keeps its totals over restarts, so that these are whole totals, and nothing is extrapolated.
    """
    return f"last_over_time({series(metric, *matchers)}[$__range])"


def one(labels: str, expr: str) -> str:
    """One value for each set of these labels: files and gateways hold what is a node's once a run."""
    return f"max by ({labels}) ({expr})"


def rate(metric: str, *matchers: str) -> str:
    """The growth in a second, as the mean of some scrapes."""
    return f"rate({series(metric, *matchers)}[$__rate_interval])"


def or_zero(expr: str, known: str) -> str:
    """The expression, or 0 where `known` has a value: what is unknown stays so."""
    return f"({expr}) or 0 * {known}"


def labelled(expr: str, **labels: str) -> str:
    """The expression with fixed labels; raises ValueError for a text that cannot stand in a query."""
    for name, text in labels.items():
        if set(text) & set('"\\$'):
            raise ValueError(f"{name}: {text!r} cannot stand in a query")
        expr = f'label_replace({expr}, "{name}", "{text}", "", "")'
    return expr

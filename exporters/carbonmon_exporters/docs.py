"""The page docs/use/metrics.md, made from the table of families that the collectors describe.

    python -m carbonmon_exporters.docs > docs/use/metrics.md

A test compares the page with this, so that it cannot go stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from carbonmon.core.metrics import ENDPOINT_FAMILIES, FAMILIES, PROCESS_FAMILIES, Family

_HEAD = """\
# Metrics

<!-- Made by `python -m carbonmon_exporters.docs`; edit carbonmon/core/metrics.py instead. -->

`GET /metrics` answers in Prometheus' text format, or in OpenMetrics where the `Accept` header asks for it,
and compresses with gzip where `Accept-Encoding` allows. `?name[]=` picks metrics by name. `/-/healthy`
answers 200 while the monitor serves; `/-/ready` answers 200 once a first sample was taken, else 503.

Base units throughout: joules, watts, grams of CO2 equivalent, seconds, ratios from 0 to 1. What is unknown
is absent, never 0. A scrape reads a snapshot and touches no sensor; it is the newest that is safe on
disk, some 5 s old, so that no total steps back when the monitor is killed and another goes on.

`increase()` counts from the first sample that a server has. A scraper (who sends the header
`X-Prometheus-Scrape-Timeout-Seconds`: Prometheus, vmagent and what is built on them) is therefore shown a
counter that is new to it with two samples that have times: 0 when it began, and its value; from the next
scrape on there is one without a time. Everybody else sees plain totals. What a scraper has seen is
remembered for its connection, so leave `honor_timestamps` at true, and put no proxy between that mixes the
requests of two servers on one connection. [Scraping](scraping.md) has the limits.

`method` says how a joule was known: `counter` (a hardware energy counter) and `power` (an integrated power
sensor) are measured, `tdp` (the specification's power times the utilisation) is estimated. Energy is what
the devices drew, without PUE; emissions include the PUE. Components (`gpu`, `cpu`, `dram`, `module`) are
disjoint.
What a [node meter](sensors/node.md) says is of the whole machine: never add `carbonmon_node_…` to devices.

"""

_RUN_INFO = """\
`carbonmon_run_info` also carries the labels that the user gave with `--label`. Characters that Prometheus
does not allow in a name become `_`; a name that begins with a digit gets the prefix `label_`; a second
label of the same name gets `_2`. Names that a run's metrics or Prometheus have already (`uid`, `phase`,
`job`, …) are refused; from the files of an earlier release they get the prefix. `uid` is the number of the
run's owner. `user`, the name, is there with `--user-names` only, as every local user can read the metrics
of a node's daemon; without it, `user` is a label like any other. Join it to any other
metric of a run, node by node (a run across nodes has one on each):

    carbonmon_run_power_watts * on (job, instance, run_id) group_left (name) carbonmon_run_info

"""


def page() -> str:
    """Return the whole page."""
    return (
        _HEAD
        + _table(FAMILIES)
        + "\n"
        + _RUN_INFO
        + "Only where /metrics is served:\n\n"
        + _table(ENDPOINT_FAMILIES)
        + "\n"
        + "The monitor itself, as prometheus-client's ProcessCollector gives it:\n\n"
        + _table(PROCESS_FAMILIES)
    )


def _table(families: Iterable[Family]) -> str:
    lines = ["| name | type | labels | meaning |", "|---|---|---|---|"]
    for family in families:
        kind = "gauge, always 1" if family.kind == "info" else family.kind
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {kind} | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())

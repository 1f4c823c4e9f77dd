"""Writes selectors of PromQL, and separates the labels of series: ours, and those of the scrape."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from carbonmon.net.address import is_loopback

RUN_ID = "run_id"
NAME = "__name__"

Target = tuple[tuple[str, str], ...]
"""The labels that a scrape added to all its samples, for instance job and instance."""

_OF_NODES = ("node", "nodename", "host", "hostname", "host_name", "kubernetes_node")
"""Labels that name the node where all nodes are scraped as localhost, or where none is scraped."""

_PLAIN = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def of_run(name: str, run_id: str, target: Target = ()) -> str:
    """The series of a metric that are of a run, of one target if it is given."""
    return f"{name}{{{','.join([f'{RUN_ID}={_text(run_id)}', *_matchers(target)])}}}"


def of_target(name: str, target: Target) -> str:
    """The series of a metric that the scraper itself writes for a target."""
    return f"{name}{{{','.join(_matchers(target))}}}"


def of_node(names: Sequence[str], run_id: str, target: Target) -> str:
    """The series of metrics that are of a run, and those of no run, which are the node's.

    A daemon exports its node without a run's id; a gateway and a file hold the node's series for each run.
    """
    matchers = [f"{NAME}=~{_text('|'.join(names))}", f"{RUN_ID}=~{_text(f'{re.escape(run_id)}|')}"]
    return f"{{{','.join([*matchers, *_matchers(target)])}}}"


def _matchers(target: Target) -> list[str]:
    return [f"{_name(label)}={_text(value)}" for label, value in target]


def span(seconds: float) -> str:
    """A duration in PromQL, at least a millisecond."""
    return f"{max(1, round(seconds * 1000))}ms"


def target_of(labels: Mapping[str, str]) -> Target:
    """The target, from the labels of a metric whose only own label is the run's id."""
    return tuple(sorted(item for item in labels.items() if item[0] not in (NAME, RUN_ID)))


def own_labels(labels: Mapping[str, str], target: Target) -> dict[str, str]:
    """The labels that carbonmon gave a sample, under their original names.

    Prometheus renames a label that the target has as well, for example to `exported_zone`.
    """
    of_target = dict(target)
    rest = {key: value for key, value in labels.items() if key not in of_target and key != NAME}
    return {
        plain if (plain := key.removeprefix("exported_")) in of_target else key: value
        for key, value in rest.items()
    }


def instance_of(target: Target) -> str:
    """The instance of a target: the node's own where a gateway or an agent on the node was scraped."""
    labels = dict(target)
    instance = labels.get("exported_instance") or labels.get("instance", "")
    if not instance or is_loopback(host_of(instance)):
        instance = next((labels[key] for key in _OF_NODES if labels.get(key)), instance)
    return instance or ",".join(f"{key}={value}" for key, value in target) or "unknown"


def host_of(instance: str) -> str:
    """The host of `HOST:PORT` or `[HOST]:PORT`."""
    match = re.fullmatch(r"\[([^\]]+)\](?::[0-9]+)?|([^:]+):[0-9]+", instance)
    return (match[1] or match[2]) if match else instance


def _name(label: str) -> str:
    return label if _PLAIN.fullmatch(label) else _text(label)


def _text(value: str) -> str:
    """A text in quotes, with the escapes of JSON, which are escapes of PromQL as well."""
    return json.dumps(value, ensure_ascii=False)

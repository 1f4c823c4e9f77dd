"""What every exporter keeps to, whatever it writes and wherever."""

from __future__ import annotations

import copy
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from carbonmon_exporters import prometheus, summary
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from carbonmon.model import DeviceState, Snapshot
from carbonmon.ports import Exporter, ExporterSettings
from tests.records import (
    HOSTILE_TEXTS,
    UNDECODABLE,
    device_state,
    gpu,
    node,
    run_info,
    run_state,
    snapshot,
)

RUN_ID = "slurm-4242"


class Seen(NamedTuple):
    """What a reader gets back of a run's name and of its label `note`."""

    name: str
    note: str


def read_metrics(place: str) -> Seen:
    request = urllib.request.Request(place, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    labels = next(
        sample.labels
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "carbonmon_run_info"
    )
    return Seen(labels["name"], labels["note"])


def read_summary(place: str) -> Seen:
    run = json.loads(Path(place).read_text(encoding="utf-8"))["run"]
    return Seen(run["name"], run["labels"]["note"])


class Case(NamedTuple):
    name: str
    open_exporter: Callable[[ExporterSettings], Exporter]
    read: Callable[[str], Seen]


CASES = (
    Case("prometheus", prometheus.open_exporter, read_metrics),
    Case("summary", summary.open_exporter, read_summary),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture
def exporter(case: Case, tmp_path: Path) -> Iterator[Exporter]:
    folder = tmp_path / RUN_ID
    folder.mkdir()
    opened = case.open_exporter(ExporterSettings(listen=("127.0.0.1", 0), run_folder=folder))
    yield opened
    opened.close()


def named(name: str) -> Snapshot:
    return node(1, 1, 1, run_info(RUN_ID, name=name, labels=(("note", name),)))


def unknown() -> Snapshot:
    """A snapshot in which everything that may be unknown is."""
    device = gpu()
    silent: DeviceState = device_state(
        device,
        power_w=None,
        peak_power_w=None,
        mean_power_w=None,
        utilization_ratio=None,
        utilization_mean_ratio=None,
    )
    run = run_state(run_info(RUN_ID), power_w=((device.id, None),))
    return snapshot((run,), (silent,), samples=0, sensors=())


def test_it_bears_the_name_it_is_chosen_by(case: Case, exporter: Exporter) -> None:
    assert exporter.name == case.name


def test_it_lives_from_start_over_finish_to_close(case: Case, exporter: Exporter) -> None:
    shown = named("train")
    place = exporter.start(lambda: shown)
    exporter.finish(shown)
    assert case.read(place) == Seen("train", "train")
    exporter.close()


def test_it_can_be_closed_twice(exporter: Exporter) -> None:
    shown = node(1, 0, 0)
    exporter.start(lambda: shown)
    exporter.close()
    exporter.close()


def test_it_can_be_closed_without_having_been_started(exporter: Exporter) -> None:
    exporter.close()


def test_a_last_snapshot_without_a_run_is_no_error(exporter: Exporter) -> None:
    empty = snapshot()
    exporter.start(lambda: empty)
    exporter.finish(empty)


def test_unknown_values_are_no_error(case: Case, exporter: Exporter) -> None:
    shown = unknown()
    place = exporter.start(lambda: shown)
    exporter.finish(shown)
    if case.name == "prometheus":
        with urllib.request.urlopen(place, timeout=10) as answer:
            assert answer.status == 200


def test_it_never_changes_a_snapshot(case: Case, exporter: Exporter) -> None:
    shown = named("train")
    before = copy.deepcopy(shown)
    place = exporter.start(lambda: shown)
    exporter.finish(shown)
    case.read(place)
    assert shown == before


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_names_come_back_as_they_were_given(case: Case, exporter: Exporter, text: str) -> None:
    shown = named(text)
    place = exporter.start(lambda: shown)
    exporter.finish(shown)
    assert case.read(place) == Seen(text, text)


def test_a_name_that_is_not_utf8_keeps_its_bytes_in_plain_characters(case: Case, exporter: Exporter) -> None:
    shown = named(UNDECODABLE)
    place = exporter.start(lambda: shown)
    exporter.finish(shown)
    assert case.read(place) == Seen(r"caf\udce9", r"caf\udce9")

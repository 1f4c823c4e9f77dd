"""What every exporter keeps to, whatever it writes and wherever."""

from __future__ import annotations

import copy
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from carbonmon_exporters import otlp, prometheus, pushgateway, summary, textfile
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as classic_families
from prometheus_client.samples import Sample

from carbonmon.core.model import DeviceState, Snapshot
from carbonmon.core.ports import Exporter, ExporterSettings
from tests.support.receivers import Receiver, eventually
from tests.support.records import (
    HOSTILE_TEXTS,
    START_S,
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


def metrics(place: str) -> Iterator[Sample]:
    request = urllib.request.Request(place, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        yield from family.samples


def written(place: str) -> Iterator[Sample]:
    """The samples of the files that the place, a path or a pattern, stands for."""
    for path in Path(place).parent.glob(Path(place).name):
        for family in classic_families(path.read_bytes().decode()):
            yield from family.samples


def pushed(place: str) -> Iterator[Sample]:
    with urllib.request.urlopen(f"{place.rsplit(maxsplit=1)[-1]}/metrics/", timeout=10) as answer:
        text = answer.read().decode()
    for family in classic_families(text):
        yield from family.samples


def sent(place: str) -> Iterator[Sample]:
    """What the collector got, as samples that are called as in Prometheus."""
    with urllib.request.urlopen(place.rsplit(maxsplit=1)[-1], timeout=10) as answer:
        request = ExportMetricsServiceRequest.FromString(answer.read())
    for resource in request.resource_metrics:
        for metric in resource.scope_metrics[0].metrics:
            name = metric.name.replace(".", "_") + ("_seconds" if metric.unit == "s" else "")
            for point in (*metric.gauge.data_points, *metric.sum.data_points):
                labels = {attribute.key: attribute.value.string_value for attribute in point.attributes}
                yield Sample(name, labels, point.as_double)


def reader(samples: Callable[[str], Iterator[Sample]]) -> Callable[[str], Seen]:
    def read(place: str) -> Seen:
        labels = next(sample.labels for sample in samples(place) if sample.name == "carbonmon_run_info")
        return Seen(labels["name"], labels["note"])

    return read


def read_summary(place: str) -> Seen:
    run = json.loads(Path(place).read_text(encoding="utf-8"))["run"]
    return Seen(run["name"], run["labels"]["note"])


Ends = dict[str, bool]
"""By a run's id whether its end is shown."""


def ends_in(samples: Callable[[str], Iterator[Sample]]) -> Callable[[str, dict[str, Path]], Ends]:
    def ends(place: str, folders: dict[str, Path]) -> Ends:
        shown = list(samples(place))
        end = "carbonmon_run_end_time_seconds"
        ended = {sample.labels["run_id"] for sample in shown if sample.name == end}
        runs = [sample.labels["run_id"] for sample in shown if sample.name == "carbonmon_run_info"]
        return {run_id: run_id in ended for run_id in runs}

    return ends


def ends_in_summaries(place: str, folders: dict[str, Path]) -> Ends:
    documents = {
        run_id: json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for run_id, folder in folders.items()
    }
    assert all(document["run"]["id"] == run_id for run_id, document in documents.items())
    return {run_id: document["state"] == "final" for run_id, document in documents.items()}


class Case(NamedTuple):
    name: str
    open_exporter: Callable[[ExporterSettings], Exporter]
    read: Callable[[str], Seen]
    ends: Callable[[str, dict[str, Path]], Ends]
    argument: Callable[[Path, Receiver], str] = lambda folder, receiver: ""
    """What the user writes behind the name: a place that the test can read again."""


def to_folder(folder: Path, receiver: Receiver) -> str:
    return str(folder)


def to_receiver(folder: Path, receiver: Receiver) -> str:
    return receiver.url


CASES = (
    Case("prometheus", prometheus.open_exporter, reader(metrics), ends_in(metrics)),
    Case("summary", summary.open_exporter, read_summary, ends_in_summaries),
    Case("textfile", textfile.open_exporter, reader(written), ends_in(written), to_folder),
    Case("pushgateway", pushgateway.open_exporter, reader(pushed), ends_in(pushed), to_receiver),
    Case("otlp", otlp.open_exporter, reader(sent), ends_in(sent), to_receiver),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


def settings(case: Case, folders: dict[str, Path], tmp_path: Path, receiver: Receiver) -> ExporterSettings:
    argument = case.argument(tmp_path, receiver)
    return ExporterSettings(listen=("127.0.0.1", 0), run_folders=folders, argument=argument)


@pytest.fixture
def exporter(case: Case, tmp_path: Path, receiver: Receiver) -> Iterator[Exporter]:
    folder = tmp_path / RUN_ID
    folder.mkdir()
    opened = case.open_exporter(settings(case, {RUN_ID: folder}, tmp_path, receiver))
    yield opened
    opened.close()


@pytest.fixture
def two_folders(tmp_path: Path) -> dict[str, Path]:
    """The folders of two runs; one has another name than its run."""
    folders = {"first": tmp_path / "first", "second": tmp_path / "second-node-7"}
    for folder in folders.values():
        folder.mkdir()
    return folders


@pytest.fixture
def busy(case: Case, two_folders: dict[str, Path], tmp_path: Path, receiver: Receiver) -> Iterator[Exporter]:
    """An exporter of a monitor that has two runs."""
    opened = case.open_exporter(settings(case, two_folders, tmp_path, receiver))
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


def test_of_two_runs_one_may_end_while_the_other_goes_on(
    case: Case, busy: Exporter, two_folders: dict[str, Path]
) -> None:
    first, second = (run_state(run_info(run_id)) for run_id in ("first", "second"))
    shown = [snapshot((first, second))]
    place = busy.start(lambda: shown[0])
    busy.checkpoint(shown[0])

    def becomes(expected: Ends) -> None:
        # Who sends to another machine does so in a thread of his own.
        eventually(lambda: case.ends(place, two_folders) == expected, str(expected))

    becomes({"first": False, "second": False})
    ended = first._replace(ended_at_s=START_S + 10.0, exit_code=0)
    shown[0] = snapshot((ended, second), samples=3605)
    busy.checkpoint(shown[0])
    becomes({"first": True, "second": False})
    shown[0] = snapshot((ended, second._replace(ended_at_s=START_S + 20.0, exit_code=0)), samples=3610)
    busy.finish(shown[0])
    assert case.ends(place, two_folders) == {"first": True, "second": True}


def test_a_monitor_without_a_run_has_exporters_too(case: Case, tmp_path: Path, receiver: Receiver) -> None:
    opened = case.open_exporter(settings(case, {}, tmp_path, receiver))
    empty = snapshot()
    opened.start(lambda: empty)
    opened.checkpoint(empty)
    opened.finish(empty)
    opened.close()


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

#!/usr/bin/env bash
# opentelemetry-sdk 1.45.2: every forked worker goes on sending the totals of its parent, as an instance of its own.
#
# Expected: a process that is forked sends nothing before it counts something itself; or it sends under its parent's
# identity, so that a sum over instances stays right.
# Seen (2026-11-30, Linux x86_64, CPython 3.11): a counter of 1000 J, then three workers of multiprocessing ("fork", as the
# workers of a data loader are) that count nothing. The reader's thread starts again in each of them, with a new
# service.instance.id and the counter as it was inherited, never to change again. The parent goes on to 1500 J; the last
# values of all instances add up to 4500 J:
#   instances 4, of the parent 1500, of all 4500
#
# A training that counts joules with that SDK and has forked workers counts them several times over. carbonmon sends with the
# messages of the protocol alone, from one process: exporters/carbonmon_exporters/push/otlplink.py; docs/use/push.md.
#
# Exit code: 0 as described, 1 different now, 2 the packages cannot be had.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile opentelemetry-sdk==1.45.2 2>/dev/null || exit 2
cat > "$folder/train.py" <<'PYTHON'
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader

FOLDER = Path(sys.argv[1])


class Files(MetricExporter):
    """Appends what it is given to a file of each process."""

    def export(self, metrics_data, timeout_millis=10_000, **_):
        for resource in metrics_data.resource_metrics:
            instance = resource.resource.attributes["service.instance.id"]
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        with (FOLDER / f"{os.getpid()}.sent").open("a") as file:
                            file.write(json.dumps([instance, point.value]) + "\n")
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=10_000):
        return True

    def shutdown(self, timeout_millis=30_000, **_):
        pass


def sent():
    """The last value of each instance."""
    lines = [line for path in FOLDER.glob("*.sent") for line in path.read_text().splitlines()]
    return dict(map(json.loads, lines))


def wait_for(instances):
    end = time.monotonic() + 30
    while len(sent()) < instances and time.monotonic() < end:
        time.sleep(0.1)


def work(done):
    done.wait()


if __name__ == "__main__":
    reader = PeriodicExportingMetricReader(Files(), export_interval_millis=200)
    provider = MeterProvider([reader])
    joules = provider.get_meter("training").create_counter("energy", "J")
    joules.add(1000)
    wait_for(1)
    (parent,) = sent()
    fork = multiprocessing.get_context("fork")
    done = fork.Event()
    workers = [fork.Process(target=work, args=(done,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    wait_for(4)
    joules.add(500)
    provider.force_flush()
    values = sent()
    done.set()
    for worker in workers:
        worker.join()
    print(f"instances {len(values)}, of the parent {values[parent]}, of all {sum(values.values())}")
    provider.shutdown()
PYTHON
now=$("$folder/venv/bin/python" "$folder/train.py" "$folder")
echo "seen now: $now"
[ "$now" = "instances 4, of the parent 1500, of all 4500" ]

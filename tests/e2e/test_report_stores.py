"""A run from a real VictoriaMetrics that has it twice: scraped by itself, and from a Prometheus agent."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.simulator import Constant, Gpu, Package, Simulator
from tests.support import command, prometheus, victoriametrics
from tests.support.daemon import daemon

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        prometheus.binary() is None or victoriametrics.binary() is None,
        reason="no Prometheus or VictoriaMetrics, and no apt-get to fetch them",
    ),
]

AGENT = Path(__file__).resolve().parents[2] / "deploy/prometheus/agent.yml"
INTERVAL_S = 0.5
RUN_ID = "train.8"
START = f'carbonmon_run_start_time_seconds{{run_id="{RUN_ID}"}}'
END = f'carbonmon_run_end_time_seconds{{run_id="{RUN_ID}"}}'


def agent_config(address: str, store: str) -> str:
    """The deployed one, with other addresses and a short interval."""
    text = AGENT.read_text()
    for deployed, here in (
        ("127.0.0.1:9877", address),
        ("http://victoriametrics:8428", store),
        ("scrape_interval: 15s", f"scrape_interval: {INTERVAL_S * 1000:.0f}ms"),
    ):
        assert text.count(deployed) >= 1
        text = text.replace(deployed, here)
    return f"{text}    queue_config: {{batch_send_deadline: 200ms}}\n"


def test_victoriametrics_has_a_run_that_it_scrapes_and_an_agent_writes_once_and_as_of_now(tmp_path: Path):
    address = f"127.0.0.1:{prometheus.free_port()}"
    node = Simulator(gpus=[Gpu(profile=Constant(300.0))], packages=[Package(profile=Constant(75.0))])
    with (
        node as machine,
        subprocess.Popen(["sleep", "300"]) as job,
        daemon(machine, tmp_path, "--listen", address, "--intensity", "300") as running,
        victoriametrics.VictoriaMetrics(tmp_path, address, INTERVAL_S) as store,
        prometheus.Agent(tmp_path, agent_config(address, store.url)),
    ):

        def report() -> dict[str, object]:
            words = ["report", "--prometheus", store.url, "--run-id", RUN_ID, "--format", "json"]
            done = command.run(words, tmp_path)
            assert done.returncode == 0, done.stderr
            document: dict[str, object] = json.loads(done.stdout)
            return document

        try:
            running.register(RUN_ID, "--pid", f"{job.pid}", "--idle", "exclusive")
            command.wait_for(lambda: len(store.query(START)) == 2, "the run, from both")
            running.draw(600.0)
            began_s = time.time()
            (count,) = report()["prometheus"]["counts"]  # type: ignore[index]
            last_s = datetime.fromisoformat(count["last_scrape_at"].replace("Z", "+00:00")).timestamp()
            assert last_s > began_s - 15.0, "without nocache it would be half a minute ago"
            assert count["state"] == "running"
            wanted = running.unregister(RUN_ID)
            command.wait_for(lambda: len(store.query(END)) == 2, "the end, from both")
            found = report()
        finally:
            job.kill()
    assert (found["state"], len(found["prometheus"]["counts"])) == ("final", 1)  # type: ignore[index, arg-type]
    assert found["energy"]["total_j"] == pytest.approx(wanted["energy"]["total_j"], rel=1e-6)  # type: ignore[index]
    assert found["prometheus"]["notes"] == []  # type: ignore[index]

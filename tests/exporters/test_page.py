"""The page's answers: what its JSON says, which headers protect it, and that viewers keep no scraper out."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from carbonmon_exporters.ended.page import ended_page
from carbonmon_exporters.ended.runs import Ended, EndedRuns
from carbonmon_exporters.endpoint.routes import MAX_VIEWERS
from carbonmon_exporters.page.answers import FILES, POLICY, STATIC
from carbonmon_exporters.page.series import SeriesCache

from carbonmon.core.model import Snapshot
from carbonmon.core.node_meter import NodeEnergy, NodeMeterState
from carbonmon.runs.layout import SERIES_FILE
from tests.support import page_states
from tests.support.metrics_endpoint import basic, hashed, serving
from tests.support.page_states import Monitor, day_of, series_devices, served
from tests.support.records import HOSTILE_TEXTS, UNDECODABLE, crowd, forecast, gpu, node, run_info

DEADLINE_S = 10.0
VIEWERS = 50
PAGE_BYTES = 60_000
"""The aim for the page without its data."""


def ask(monitor: Monitor, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(monitor.url.removeprefix("http://"), timeout=DEADLINE_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def document(monitor: Monitor, path: str = "/api/v1/now") -> Any:
    status, _, body = ask(monitor, path)
    assert status == 200, body
    return json.loads(body)


def now(shown: Snapshot) -> Any:
    with served(shown) as monitor:
        return document(monitor)


# What is served, and how it is protected


@pytest.mark.parametrize("path", [*FILES, "/api/v1/now", "/api/v1/runs", "/api/v1/runs/none/series"])
def test_every_answer_forbids_what_comes_from_elsewhere(path: str) -> None:
    with served(node(1, 1, 0)) as monitor:
        _, headers, _ = ask(monitor, path)
    assert headers["Content-Security-Policy"] == POLICY
    assert POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_the_page_is_small_and_names_nothing_elsewhere() -> None:
    texts = {name: (STATIC / name).read_text() for name, _ in FILES.values()}
    assert sum(len(text.encode()) for text in texts.values()) <= PAGE_BYTES
    for name, text in texts.items():
        addresses = text.replace("http://www.w3.org/2000/svg", "")
        assert "//" not in "".join(line for line in addresses.splitlines() if "http" in line), name
        assert "innerHTML" not in text, name
    assert set(texts) == {path.name for path in STATIC.iterdir()}


@pytest.mark.parametrize("path", ["/", "/api/v1/now"])
def test_head_has_the_headers_alone(path: str) -> None:
    with served(node(1, 0, 0)) as monitor:
        status, headers, body = ask(monitor, path, "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 500


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_nothing_can_be_changed(method: str) -> None:
    with served(node(1, 0, 0)) as monitor:
        assert ask(monitor, "/api/v1/runs", method)[0] == 405


def test_no_module_of_the_page_is_loaded_before_somebody_looks() -> None:
    script = (
        "import sys, carbonmon_exporters.prometheus; "
        "print([name for name in sys.modules if name.startswith('carbonmon_exporters.page') "
        "or name == 'carbonmon.runs.downsampling'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_who_may_not_read_the_metrics_sees_no_page(tmp_path: Path) -> None:
    config = tmp_path / "web-config.yml"
    config.write_text(f"basic_auth_users:\n  someone: {hashed()}\n")
    with serving(config) as endpoint:
        for path in (*FILES, "/api/v1/now", "/api/v1/runs", "/api/v1/runs/slurm-4242/series"):
            assert endpoint.status(path) == 401
        assert endpoint.status("/", headers=basic("someone")) == 200
        assert endpoint.status("/api/v1/now", headers=basic("someone")) == 200


# What the JSON says


def test_power_is_split_into_what_is_measured_and_what_is_estimated() -> None:
    found = now(page_states.hours_in(2, 1, 1))
    run = found["run"]
    assert run["power_w"] == 250.0 * 3 + 11.5
    assert run["estimated_power_w"] == 11.5
    assert {device["id"]: device["known_by"] for device in found["node"]["devices"]}["dram-0"] == "estimated"
    assert run["energy_low_j"] < run["energy_j"] < run["energy_high_j"]
    assert [phase["name"] for phase in run["phases"]] == ["train", "eval"]


def test_no_power_of_an_estimated_device_is_estimated_too() -> None:
    shown = node(0, 0, 1)
    idle = shown.runs[0]._replace(power_w=(("dram-0", 0.0),))
    run = now(shown._replace(runs=(idle,)))["run"]
    assert (run["power_w"], run["power_known_by"]) == (0.0, "estimated")
    assert now(page_states.hours_in(2, 1, 1))["run"]["power_known_by"] == "both"
    assert now(node(1, 0, 0))["run"]["power_known_by"] == "measured"


def test_the_energy_of_a_token_is_told_where_the_run_counts_them() -> None:
    shown = page_states.hours_in(2, 1, 1)
    work = now(shown)["run"]["work"]
    told = shown.runs[0].work
    assert told is not None
    (span,) = (each for each in told.spans if each.what == "tokens")
    assert work["energy_per_token_j"] == pytest.approx(span.energy_j / told.tokens)
    assert (work["steps"], work["total_steps"]) == (600.0, 1000.0)
    silent = shown.runs[0]._replace(work=None)
    assert now(shown._replace(runs=(silent,)))["run"]["work"] is None


def test_a_device_whose_sensor_is_lost_is_estimated_from_then_on() -> None:
    shown = node(1, 1, 0)
    with served(shown) as monitor:
        assert document(monitor)["run"]["estimated_power_w"] == 0.0
        first = shown.devices[0]
        lost = first._replace(tdp_j=first.tdp_j + 400.0)
        monitor.shown = shown._replace(devices=(lost, *shown.devices[1:]), at_s=shown.at_s + 5.0)
        found = document(monitor)
    assert found["node"]["devices"][0]["known_by"] == "estimated"
    assert found["run"]["estimated_power_w"] == 250.0


def test_a_device_that_was_estimated_before_anybody_looked_is_not_taken_for_measured() -> None:
    shown = node(1, 0, 0)
    mixed = shown.devices[0]._replace(tdp_j=5.0)
    assert now(shown._replace(devices=(mixed,)))["node"]["devices"][0]["known_by"] == "estimated"


def test_what_is_unknown_is_null_and_never_0() -> None:
    found = now(page_states.just_begun())
    assert found["state"] == "starting"
    assert found["node"]["power_w"] is None
    assert found["run"]["power_w"] is None
    assert found["run"]["unknown_devices"] == 3
    assert found["run"]["energy_j"] is None
    assert found["run"]["emissions_g"] is None
    lost = now(page_states.sensor_lost())["run"]
    assert (lost["power_w"], lost["unknown_devices"]) == (250.0, 2)


def test_a_figure_that_is_no_number_is_null() -> None:
    shown = node(1, 0, 0)
    broken = shown.devices[0]._replace(power_w=float("nan"), utilization_ratio=float("inf"))
    (device,) = now(shown._replace(devices=(broken,)))["node"]["devices"]
    assert device["power_w"] is None
    assert device["utilization_ratio"] is None


def test_a_forecast_has_its_range_and_a_budget_what_is_spent_of_it() -> None:
    shown = page_states.hours_in(1, 0, 0)
    run = now(shown)["run"]
    assert run["forecast"]["energy_j"]["low"] < run["forecast"]["energy_j"]["expected"]
    begun_s = shown.at_s - shown.runs[0].duration_s
    assert run["forecast"]["end_at_s"]["expected"] == begun_s + forecast().duration_s.expected
    (budget,) = run["budgets"]
    assert (budget["text"], budget["limit"], budget["spent"]) == ("2kWh", 7.2e6, 1.8e6)
    (state,) = shown.runs
    ended = now(shown._replace(runs=(state._replace(ended_at_s=shown.at_s),)))["run"]
    assert ended["forecast"] is None
    assert len(ended["budgets"]) == 1


def test_every_source_has_its_state_and_its_cure() -> None:
    nvml, rapl = now(node(1, 0, 0))["sensors"]
    assert (nvml["is_used"], nvml["is_up"], nvml["errors"]) == (True, True, {"timeout": 2})
    assert (rapl["is_used"], rapl["is_up"], rapl["remedy"]) == (False, None, "sudo chmod o+r energy_uj")


@pytest.mark.parametrize("name", [*HOSTILE_TEXTS, "\u202egnp.exe", "\x1b[31m\x9b2J", "</script>"])
def test_a_hostile_name_goes_through_as_ascii(name: str) -> None:
    with served(node(1, 0, 0, run_info(name=name, labels=((name, name),)))) as monitor:
        _, _, body = ask(monitor, "/api/v1/now")
    assert all(0x20 <= byte < 0x7F for byte in body.rstrip(b"\n"))
    run = json.loads(body)["run"]
    assert (run["name"], run["labels"]) == (name, {name: name})


def test_a_name_that_is_no_text_can_still_be_printed() -> None:
    assert now(node(1, 0, 0, run_info(name=UNDECODABLE)))["run"]["name"] == "caf\\udce9"


def test_the_newest_run_that_goes_on_is_shown_unless_another_is_asked_for() -> None:
    shown = crowd(3)
    first, second, third = shown.runs
    begin_s = first.info.started_at_s
    newer = second._replace(info=run_info("newer")._replace(started_at_s=begin_s + 10.0))
    info = run_info("ended")._replace(started_at_s=begin_s + 20.0)
    ended = third._replace(info=info, ended_at_s=shown.at_s, exit_code=3)
    with served(shown._replace(runs=(first, newer, ended))) as monitor:
        assert document(monitor)["run"]["id"] == "newer"
        assert document(monitor)["runs"] == {"running": 2, "ended": 1}
        asked = document(monitor, "/api/v1/now?run=ended")["run"]
        assert (asked["state"], asked["exit_code"], asked["power_w"]) == ("ended", 3, None)
        assert [run["id"] for run in document(monitor, "/api/v1/runs")["runs"]] == [
            "newer",
            "slurm-0",
            "ended",
        ]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/now?run=other",
        "/api/v1/runs/other/series",
        "/api/v1/runs/..%2F..%2Fetc/series",
        "/api/v1/",
        "/page.py",
    ],
)
def test_what_is_not_there_is_said_without_a_path(path: str, tmp_path: Path) -> None:
    with served(node(1, 0, 0), {"slurm-4242": tmp_path}) as monitor:
        status, _, body = ask(monitor, path)
    assert status == 404
    assert json.loads(body)["error"]
    assert str(tmp_path).encode() not in body


# The series of a run


def test_the_past_of_a_run_comes_in_few_steps(tmp_path: Path) -> None:
    shown = page_states.hours_in(1, 1, 1)
    folder = day_of(tmp_path / "slurm-4242", series_devices(shown), shown.at_s, hours=3.0)
    with served(shown, {"slurm-4242": folder}) as monitor:
        found = document(monitor, "/api/v1/runs/slurm-4242/series")
    assert [device["id"] for device in found["devices"]] == [gpu().id, "package-0", "dram-0"]
    steps = {len(device["power_w"]) for device in found["devices"]}
    assert steps == {len(phase["time_ratio"]) for phase in found["phases"]}
    assert 150 <= steps.pop() <= 360
    assert found["end_s"] == shown.at_s
    assert set(found["devices"][0]["measured_ratio"]) == {1.0}
    assert set(found["devices"][2]["measured_ratio"]) == {0.0}
    assert found["damaged_lines"] == 0


def test_a_damaged_series_is_read_as_far_as_it_can_be(tmp_path: Path) -> None:
    shown = page_states.hours_in(1, 0, 0)
    folder = day_of(tmp_path / "slurm-4242", series_devices(shown), shown.at_s, hours=0.05)
    lines = (folder / SERIES_FILE).read_bytes().splitlines(keepends=True)
    lines[3], lines[5] = b'{"at_s": "never"}\n', b"\xff\xfe\n"
    (folder / SERIES_FILE).write_bytes(b"".join(lines) + b'{"at_s":1795')
    with served(shown, {"slurm-4242": folder}) as monitor:
        found = document(monitor, "/api/v1/runs/slurm-4242/series")
    assert found["damaged_lines"] == 2
    assert None in found["devices"][0]["power_w"]
    assert max(filter(None, found["devices"][0]["power_w"])) > 0.0


def test_a_run_without_a_series_says_so(tmp_path: Path) -> None:
    with served(node(1, 0, 0), {"slurm-4242": tmp_path}) as monitor:
        status, _, body = ask(monitor, "/api/v1/runs/slurm-4242/series")
        assert status == 404
        assert "series" in json.loads(body)["error"]
        (tmp_path / SERIES_FILE).symlink_to("/etc/passwd")
        assert ask(monitor, "/api/v1/runs/slurm-4242/series")[0] == 404
        (tmp_path / SERIES_FILE).unlink()
        (tmp_path / SERIES_FILE).touch()
        assert document(monitor, "/api/v1/runs/slurm-4242/series")["devices"] == []


def test_a_series_is_read_again_only_after_a_while(tmp_path: Path) -> None:
    clock = [100.0]
    cache = SeriesCache(lambda: clock[0])
    folder = day_of(tmp_path, [("gpu", "gpu", "counter")], 1_795_000_000.0, hours=0.01)
    first = cache.of(folder, lambda found: json.dumps(found).encode())
    (folder / SERIES_FILE).write_text("")
    assert cache.of(folder, lambda found: json.dumps(found).encode()) == first
    clock[0] += 60.0
    assert cache.of(folder, lambda found: json.dumps(found).encode()) != first


# Viewers and scrapers


def test_fifty_viewers_take_no_connection_from_a_scraper() -> None:
    scrape = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}
    with served(node()) as monitor:
        scraper = http.client.HTTPConnection(monitor.url.removeprefix("http://"), timeout=DEADLINE_S)
        scraper.request("GET", "/metrics", headers=scrape)
        assert scraper.getresponse().read()
        kept = scraper.sock
        statuses: list[int] = []

        def look() -> None:
            statuses.extend(ask(monitor, path)[0] for path in ("/", "/api/v1/now", "/api/v1/now"))

        viewers = [threading.Thread(target=look) for _ in range(VIEWERS)]
        for viewer in viewers:
            viewer.start()
        for _ in range(5):
            scraper.request("GET", "/metrics", headers=scrape)
            answer = scraper.getresponse()
            assert answer.status == 200
            assert b"carbonmon_run_energy_joules_total" in answer.read()
        for viewer in viewers:
            viewer.join()
        assert scraper.sock is kept is not None
        scraper.close()
    assert len(statuses) == 3 * VIEWERS
    assert statuses.count(200) > 2 * VIEWERS


def test_few_connections_of_viewers_are_kept_open() -> None:
    with served(node(1, 0, 0)) as monitor, contextlib.ExitStack() as opened:
        viewers = [
            opened.enter_context(
                contextlib.closing(http.client.HTTPConnection(monitor.url.removeprefix("http://")))
            )
            for _ in range(MAX_VIEWERS + 3)
        ]
        for _ in range(2):
            for viewer in viewers:
                viewer.request("GET", "/api/v1/now")
                assert viewer.getresponse().read()
        assert sum(viewer.sock is not None for viewer in viewers) == MAX_VIEWERS
        viewers[0].request("GET", "/")
        assert viewers[0].getresponse().getheader("Connection") == "close", "the page itself needs none"


def test_a_crowd_of_viewers_has_one_answer_made() -> None:
    with served(node()) as monitor:
        bodies = {ask(monitor, "/api/v1/now")[2] for _ in range(3)}
        assert len(bodies) == 1
        monitor.shown = page_states.later(monitor.shown)
        assert ask(monitor, "/api/v1/now")[2] not in bodies


# After the monitor's end


def test_who_comes_after_the_end_is_told_what_to_do() -> None:
    ended = EndedRuns([Ended(["slurm-4242"], [], {}, 1e12)])
    status, _, body = ended_page(ended, "/", "")
    assert status == "200 OK"
    assert b"carbonmon report slurm-4242" in body
    assert json.loads(ended_page(ended, "/api/v1/now", "")[2]) == {
        "api": 1,
        "state": "ended",
        "ended": ["slurm-4242"],
    }
    assert ended_page(ended, "/page.js", "")[0].startswith("404")


def test_meters_of_the_whole_machine_are_beside_the_devices_and_in_no_sum() -> None:
    plain = now(node(2, 1, 0))
    total = NodeEnergy("acpi", 0.0, 9e6, 7e6, 3600.0, 12.0)
    with_meter = now(node(2, 1, 0)._replace(node_meters=(NodeMeterState(total, 1050.0, 0.7),)))
    assert plain["node"].pop("meters") == []
    assert with_meter["node"].pop("meters") == [
        {"meter": "acpi", "power_w": 1050.0, "energy_j": 9e6, "coverage_ratio": 0.7, "unobserved_s": 12.0}
    ]
    assert with_meter == plain

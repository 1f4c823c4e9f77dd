"""The end of a run in what scrapes it: served by a process of its own, or by the next monitor at the port."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from carbonmon_exporters.ended.start import start
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.simulator import Constant, Package, Simulator
from tests.support import command, prometheus, victoriametrics
from tests.support.metrics_endpoint import Authority, basic, hashed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODULE = start.__module__.rpartition(".")[0]
TOTAL = "carbonmon_run_energy_joules_total"
SCRAPER = {
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
    "User-Agent": "Prometheus/2.42.0",
    "Accept": "application/openmetrics-text;version=1.0.0",
}
UNTIL = "while [ ! -e over ]; do sleep 0.02; done"


@pytest.fixture
def machine() -> Iterator[Simulator]:
    with Simulator(packages=[Package(profile=Constant(100.0), dram=Constant(20.0))]) as simulated:
        yield simulated


def options(machine: Simulator, port: int = 0, *more: str) -> list[str]:
    where = ["--listen", f"127.0.0.1:{port}", "--sysfs", str(machine.sysfs), "--sensor", "rapl"]
    return ["run", "--own-monitor", "--idle", "exclusive", "--interval", "0.2", *where, *more, "--"]


class Scraper:
    """A server that scrapes over one connection as long as that is open."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, **headers: str) -> None:
        place: dict[str, Any] = {"host": "127.0.0.1", "port": port, "timeout": command.DEADLINE_S}
        self._client = (
            http.client.HTTPConnection(**place)
            if context is None
            else http.client.HTTPSConnection(**place, context=context)
        )
        self._headers = SCRAPER | headers

    def __enter__(self) -> Scraper:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self) -> tuple[int, str]:
        try:
            self._client.request("GET", "/metrics", headers=self._headers)
            answer = self._client.getresponse()
        except (ConnectionError, http.client.HTTPException):  # the connection had been closed meanwhile
            self._client.close()
            self._client.request("GET", "/metrics", headers=self._headers)
            answer = self._client.getresponse()
        return answer.status, answer.read().decode()

    def runs(self) -> set[str]:
        """The runs in an answer."""
        status, text = self.ask()
        assert status == 200, text
        return {
            sample.labels["run_id"]
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == TOTAL
        }


def left_over(port: int) -> list[psutil.Process]:
    """The processes that serve ended runs at a port."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if MODULE in process.cmdline() and any(
                connection.laddr.port == port for connection in process.net_connections("tcp")
            ):
                found.append(process)
    return found


def is_free(port: int) -> bool:
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


def begin(
    machine: Simulator, folder: Path, port: int, run_id: str, *more: str, **how: Any
) -> subprocess.Popen[str]:
    """A run that ends when `folder` has the file "over"; its metrics are served now."""
    (folder / "over").unlink(missing_ok=True)
    arguments = [*options(machine, port, "--run-id", run_id, *more), "sh", "-c", f"{UNTIL}; exit 7"]
    process = command.start(arguments, folder, env=machine.environ, **how)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert f":{port}/metrics ·" in line, line
    if "--web-config" not in more:
        command.wait_for(
            lambda: f'run_id="{run_id}"' in command.get(f"http://127.0.0.1:{port}/metrics"), "the run"
        )
    return process


def end(process: subprocess.Popen[str], folder: Path) -> str:
    """End the run of `begin`; what it had to say."""
    (folder / "over").touch()
    _, said = process.communicate(timeout=command.DEADLINE_S)
    assert process.returncode == 7, said
    return said


@pytest.mark.skipif(
    prometheus.binary() is None or victoriametrics.binary() is None,
    reason="no Prometheus and VictoriaMetrics, and no apt-get to fetch them",
)
def test_two_stores_have_the_whole_of_each_run_at_whatever_moment_they_scrape(
    machine: Simulator, tmp_path: Path
) -> None:
    """Each store scrapes each address at a moment of its own in the interval."""
    ports = [prometheus.free_port() for _ in range(4)]
    places = [f"127.0.0.1:{port}" for port in ports]
    with (
        prometheus.Prometheus(tmp_path, places, 2.0) as first,
        victoriametrics.VictoriaMetrics(tmp_path, places, 2.0) as second,
    ):
        runs = [
            command.start(
                [*options(machine, port, "--run-id", f"run-{port}"), "sleep", f"{5.0 + 0.37 * number:g}"],
                tmp_path,
                env=machine.environ,
            )
            for number, port in enumerate(ports)
        ]
        for run in runs:
            run.communicate(timeout=60.0)
            assert run.returncode == 0
        ended_s = time.monotonic()
        command.wait_for(lambda: all(map(is_free, ports)), "the end of all that was left")
        assert time.monotonic() - ended_s < 10.0, "they wait for a scrape, not for their whole time"
        for port in ports:
            folder = tmp_path / "carbonmon-runs" / f"run-{port}"
            truth_j = json.loads((folder / "summary.json").read_text())["energy"]["total_j"]
            assert truth_j > 500.0
            for store in (first, second):
                query = f'sum(last_over_time({TOTAL}{{run_id="run-{port}"}}[5m]))'
                # A store may show a sample a second after it has it.
                command.wait_for(
                    lambda store=store, query=query, truth_j=truth_j: (
                        store.number(query) == pytest.approx(truth_j, rel=0.01)
                    ),
                    f"the whole of {port} in {type(store).__name__}",
                )


def test_the_job_s_exit_waits_for_nothing_and_nothing_of_the_job_s_is_held(
    machine: Simulator, tmp_path: Path
) -> None:
    port = prometheus.free_port()
    reader, writer = os.pipe()
    run = begin(machine, tmp_path, port, "a", pass_fds=[writer])
    os.close(writer)
    with Scraper(port) as scraper:
        assert scraper.runs() == {"a"}
        end(run, tmp_path)  # the streams are closed, and the code is the job's
        assert os.read(reader, 1) == b"", "so is what the command was given beside them"
        os.close(reader)
        (process,) = command.wait_for(lambda: left_over(port), "the process")
        assert process.terminal() is None
        assert os.getsid(process.pid) == process.pid
        assert process.cwd() == "/"
        command.wait_for(lambda: opened(process) == {"/dev/null"}, "only sockets, and no file")
        status, text = scraper.ask()
    assert status == 200
    names = {family.name for family in text_string_to_metric_families(text)}
    assert "carbonmon_run_end_time_seconds" in names
    assert "carbonmon_device_energy_joules" in names
    assert not names & {"carbonmon_run_power_watts", "carbonmon_device_power_watts", "carbonmon_sensor_up"}
    process.wait(command.DEADLINE_S)
    assert is_free(port)


def test_without_a_scraper_there_is_no_process(machine: Simulator, tmp_path: Path) -> None:
    port = prometheus.free_port()
    run = begin(machine, tmp_path, port, "a")
    assert TOTAL in command.get(f"http://127.0.0.1:{port}/metrics"), "somebody with curl"
    end(run, tmp_path)
    assert is_free(port)
    assert left_over(port) == []


def test_after_its_time_nothing_is_left(machine: Simulator, tmp_path: Path) -> None:
    """Nobody has scraped; who gives --targets says that somebody does."""
    port = prometheus.free_port()
    targets = tmp_path / "targets"
    run = begin(machine, tmp_path, port, "a", "--retain", "1.5", "--targets", str(targets))
    end(run, tmp_path)
    assert len(list(targets.iterdir())) == 1, "Prometheus still looks here"
    (process,) = command.wait_for(lambda: left_over(port), "the process")
    with Scraper(port) as scraper:
        assert scraper.runs() == {"a"}
        process.wait(command.DEADLINE_S)
    assert is_free(port)
    assert list(targets.iterdir()) == []


def test_the_next_monitors_take_the_port_and_show_the_ended_runs(machine: Simulator, tmp_path: Path) -> None:
    port = prometheus.free_port()
    with ExitStack() as scrapers:
        one, two = (scrapers.enter_context(Scraper(port)) for _ in range(2))
        run = begin(machine, tmp_path, port, "a")
        assert one.runs() == two.runs() == {"a"}
        said = end(run, tmp_path)
        assert "goes on" not in said, "the job has left nothing: the process is carbonmon's own"
        run = begin(machine, tmp_path, port, "b")
        command.wait_for(lambda: not left_over(port), "the end of the process before")
        assert one.runs() == {"a", "b"}
        end(run, tmp_path)
        run = begin(machine, tmp_path, port, "c")
        assert one.runs() == {"a", "b", "c"}, "the other one has not seen the end of a"
        assert two.runs() == {"a", "b", "c"}
        assert one.runs() == two.runs() == {"c"}
        end(run, tmp_path)
        assert one.runs() >= {"c"}
        assert two.runs() >= {"c"}
    command.wait_for(lambda: is_free(port), "the end of the last process")


def test_a_killed_process_harms_nothing(machine: Simulator, tmp_path: Path) -> None:
    port = prometheus.free_port()
    run = begin(machine, tmp_path, port, "a")
    with Scraper(port) as scraper:
        scraper.runs()
        end(run, tmp_path)
        (process,) = command.wait_for(lambda: left_over(port), "the process")
        process.kill()
        process.wait(command.DEADLINE_S)
        run = begin(machine, tmp_path, port, "b")
        assert scraper.runs() == {"b"}
        end(run, tmp_path)
        assert scraper.runs() == {"b"}
    command.wait_for(lambda: is_free(port), "the end of the process")


def test_tls_and_passwords_protect_an_ended_run_as_before(machine: Simulator, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    config = tmp_path / "web-config.yml"
    config.write_text(
        "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
        f"basic_auth_users: {{prometheus: {hashed()}}}\n"
    )
    port = prometheus.free_port()
    run = begin(machine, tmp_path, port, "a", "--web-config", config.name)
    client = authority.client()
    with Scraper(port, client, **basic("prometheus")) as known, Scraper(port, client) as stranger:
        command.wait_for(lambda: known.runs() == {"a"}, "the run")
        end(run, tmp_path)
        assert left_over(port)
        assert stranger.ask()[0] == 401
        # A monitor that would show it to anybody does not get it, and serves elsewhere.
        other = command.start([*options(machine, port), "true"], tmp_path, env=machine.environ)
        assert f"port {port} was taken" in other.communicate(timeout=command.DEADLINE_S)[1]
        assert known.runs() == {"a"}
    command.wait_for(lambda: is_free(port), "the end of the process")


@pytest.mark.skipif(
    shutil.which("unshare") is None or os.geteuid() != 0, reason="no unshare, or no right to use it"
)
def test_the_first_process_of_a_container_says_that_its_end_may_be_missing(
    machine: Simulator, tmp_path: Path
) -> None:
    port = prometheus.free_port()
    with closing(command_in_container(machine, tmp_path, port)) as lines, Scraper(port) as scraper:
        assert next(lines)
        command.wait_for(scraper.runs, "the run")
        (tmp_path / "over").touch()
        assert "--init" in "".join(lines)
    assert left_over(port) == []


def command_in_container(machine: Simulator, folder: Path, port: int) -> Iterator[str]:
    """The lines of a run that is the first process of a PID namespace."""
    words = ["unshare", "--pid", "--fork", "--mount-proc", command.CARBONMON]
    run = subprocess.Popen(
        [*words, *options(machine, port), "sh", "-c", UNTIL],
        cwd=folder,
        env=command.environ() | machine.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    with run.stderr as lines:
        yield from lines
    assert run.wait(command.DEADLINE_S) == 0


def test_a_request_to_end_ends_it_and_removes_the_file_of_its_target(
    machine: Simulator, tmp_path: Path
) -> None:
    """As systemd's and Slurm's clean-up do."""
    port = prometheus.free_port()
    targets = tmp_path / "targets"
    end(begin(machine, tmp_path, port, "a", "--targets", str(targets)), tmp_path)
    (process,) = command.wait_for(lambda: left_over(port), "the process")
    command.wait_for(lambda: catches(process, signal.SIGTERM), "its start")
    process.send_signal(signal.SIGTERM)
    process.wait(command.DEADLINE_S)
    assert list(targets.iterdir()) == []


def opened(process: psutil.Process) -> set[str]:
    """The files and pipes that a process holds open."""
    names = set()
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            names.add(str(path.readlink()))
    return {name for name in names if not name.startswith(("socket:", "anon_inode:[eventfd"))}


def catches(process: psutil.Process, number: int) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = re.search(r"^SigCgt:\s+(\w+)$", status, re.MULTILINE)
    return mask is not None and bool(int(mask[1], 16) >> (number - 1) & 1)

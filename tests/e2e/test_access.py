"""The documented web config with the real command, promtool and a real Prometheus; secrets stay secret."""

from __future__ import annotations

import os
import re
import shlex
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import command, prometheus
from tests.support.metrics_endpoint import PASSWORD, Authority, basic, hashed, replace

pytestmark = pytest.mark.e2e

TREE = Path(__file__).resolve().parents[2]
EXAMPLE = TREE / "deploy" / "prometheus" / "web-config.yml"
HASH = re.compile(r"\$2[aby]\$10\$\S{53}")

needs_prometheus = pytest.mark.skipif(
    prometheus.binary() is None, reason="no Prometheus, and no apt-get to fetch it"
)


def blocks(kind: str) -> list[str]:
    """The code blocks of one kind on the pages about deployment."""
    pages = [page.read_text() for page in sorted((TREE / "docs" / "use").glob("deploy*.md"))]
    return [found for page in pages for found in re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example, with a known password, and a certificate that was made as the page says."""
    (line,) = [line for block in blocks("console") for line in block.splitlines() if "openssl req" in line]
    words = shlex.split(line.removeprefix("$ ").replace("DNS:node1.example", "DNS:localhost,IP:127.0.0.1"))
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    text, changes = HASH.subn(lambda _: hashed(), EXAMPLE.read_text())
    assert changes == 1
    (tmp_path / "web-config.yml").write_text(text)
    return tmp_path


class Monitor:
    """`carbonmon run` with a web config, until its job is ended."""

    def __init__(self, config: Path, *options: str) -> None:
        self.log = config.parent / "stderr"
        with self.log.open("w") as log:
            self.process = command.start(
                [
                    *("run", "--web-config", str(config), "--sensor", "tdp", "--checkpoint", "0.2"),
                    *("--interval", "0.1", *options, "--", "sleep", "60"),
                ],
                config.parent,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self.url: str = command.wait_for(self._url, "the first line")

    def said(self) -> str:
        return self.log.read_text()

    def _url(self) -> str | None:
        found = re.search(r"https?://\S+/metrics", self.said())
        return found[0] if found else None

    def status(self, client: ssl.SSLContext, headers: dict[str, str] | None = None, path: str = "") -> int:
        url = self.url.removesuffix("/metrics") + path if path else self.url
        request = urllib.request.Request(url, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=command.DEADLINE_S, context=client) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@contextmanager
def monitor(config: Path, *options: str) -> Iterator[Monitor]:
    made = Monitor(config, *options)
    try:
        yield made
    finally:
        made.process.send_signal(signal.SIGTERM)
        made.process.wait(command.DEADLINE_S)


class Scraping(prometheus.Configured):
    """A Prometheus with the documented scrape job, changed to this machine."""

    def __init__(self, folder: Path, url: str, more: str = "") -> None:
        (text,) = [block for block in blocks("yaml") if "password_file" in block]
        (folder / "password").write_text(PASSWORD)
        for documented, here in (
            ("/etc/prometheus/carbonmon.password", str(folder / "password")),
            ("/etc/prometheus/carbonmon-ca.crt", str(folder / "server.crt")),
            ("node1.example:9877", url.removeprefix("https://").removesuffix("/metrics")),
            ("# cert_file: /etc/prometheus/client.crt", f"cert_file: {folder}/client.crt" if more else "#"),
            ("# key_file: /etc/prometheus/client.key", f"key_file: {folder}/client.key" if more else "#"),
        ):
            assert documented in text, documented
            text = text.replace(documented, here)
        text = f"global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n{text}"
        super().__init__(folder, text)
        promtool("check", "config", str(folder / "prometheus.yml"))


def promtool(*words: str) -> str:
    program = prometheus.binary()
    assert program is not None
    done = subprocess.run(
        [str(Path(program).with_name("promtool")), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_prometheus
def test_promtool_accepts_the_documented_web_config(folder: Path) -> None:
    for text in (EXAMPLE.read_text(), re.sub(r"# (client_)", r"\1", EXAMPLE.read_text())):
        (folder / "web-config.yml").write_text(text)
        Authority(folder, "clients-ca").file.rename(folder / "clients-ca.crt")
        assert "SUCCESS" in promtool("check", "web-config", str(folder / "web-config.yml"))


@needs_prometheus
def test_a_real_prometheus_scrapes_over_tls_with_a_password(folder: Path) -> None:
    with monitor(folder / "web-config.yml") as running, Scraping(folder, running.url) as server:
        command.wait_for(lambda: server.number("up") == 1.0, "a scrape")
        command.wait_for(lambda: server.number("count(carbonmon_build_info)"), "the metrics")
        (folder / "password").write_text("wrong")
        command.wait_for(lambda: server.number("up") == 0.0, "a scrape that is refused")


@needs_prometheus
def test_a_real_prometheus_scrapes_with_a_client_s_certificate(folder: Path) -> None:
    clients = Authority(folder, "clients-ca")
    clients.file.rename(folder / "clients-ca.crt")
    clients.issue("client")
    config = folder / "web-config.yml"
    config.write_text(re.sub(r"# (client_)", r"\1", config.read_text()))
    with monitor(config) as running, Scraping(folder, running.url, "client") as server:
        command.wait_for(lambda: server.number("up") == 1.0, "a scrape")


def test_the_documented_hash_lets_in_who_knows_its_password_and_the_example_s_nobody(folder: Path) -> None:
    (line,) = [
        line.removeprefix("$ ")
        for block in blocks("console")
        for line in block.splitlines()
        if "import bcrypt" in line
    ]
    assert line in EXAMPLE.read_text()
    code = shlex.split(line)[2].replace("getpass.getpass()", repr(PASSWORD))
    python = command.CARBONMON.replace("carbonmon", "python")
    made = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    client = ssl.create_default_context(cafile=str(folder / "server.crt"))
    (folder / "web-config.yml").write_text(HASH.sub(lambda _: made.strip(), EXAMPLE.read_text()))
    with monitor(folder / "web-config.yml") as running:
        assert running.status(client, basic("prometheus")) == 200
        assert running.status(client, basic("prometheus"), "/-/ready") == 200
        assert running.status(client, path="/-/healthy") == 401
        for guess in ("", "prometheus", "changeme", "password"):
            assert running.status(client, basic("prometheus", guess)) == 401


def test_a_password_is_changed_while_the_monitor_runs_and_no_secret_is_logged(folder: Path) -> None:
    config = folder / "web-config.yml"
    client = ssl.create_default_context(cafile=str(folder / "server.crt"))
    old = config.read_text()
    options = ("--log-level", "debug", "--listen", "0.0.0.0:0")
    with monitor(config, *options) as running:
        running.url = running.url.replace("0.0.0.0", "localhost")
        assert running.status(client, basic("prometheus")) == 200
        replace(config, old.replace("prometheus: $", "prometheus: x$"))
        command.wait_for(
            lambda: running.status(client, basic("prometheus")) == 200 and "not applied" in running.said(),
            "a check of the broken file",
        )
        replace(config, re.sub(r"\$2b\$04\$\S{53}", lambda _: hashed("second"), old))
        command.wait_for(lambda: running.status(client, basic("prometheus")) == 401, "the new password")
        assert running.status(client, basic("prometheus", "second")) == 200
    said = running.said()
    assert said.count("not applied, the old one stays in force") == 1
    assert "no authentication" not in said
    for secret in (PASSWORD, "second", basic("prometheus")["Authorization"][6:], "$2b$", "PRIVATE"):
        assert secret not in said


def test_an_open_address_is_warned_of_once_with_what_to_do(tmp_path: Path) -> None:
    done = command.run(["run", "--listen", "0.0.0.0:0", "--sensor", "tdp", "--", "true"], tmp_path)
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if "authentication" in line]
    assert "--web-config FILE, or listen on 127.0.0.1" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("basic_auth_user:\n  a: b\n", "line 1: unknown key 'basic_auth_user' in the file; did you mean"),
        ("tls_server_config:\n  cert_file: no.crt\n  key_file: no.key\n", "no.crt cannot be read"),
        ("", "is empty"),
    ],
)
def test_a_bad_web_config_ends_the_command_before_the_job_starts(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "web-config.yml").write_text(text)
    done = command.run(["run", "--web-config", "web-config.yml", "--", "touch", "started"], tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "started").exists()


def test_the_key_of_the_page_is_its_owner_s_alone(folder: Path) -> None:
    """openssl makes it so; a key that others can read would be warned of."""
    assert os.stat(folder / "server.key").st_mode & 0o077 == 0  # noqa: PTH116

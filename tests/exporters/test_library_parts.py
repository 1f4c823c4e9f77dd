"""Parts of prometheus_client are imported without its package; whoever asks for the package has all of it."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support import command

LOADED_WITH_A_SERVER = (
    "ssl",
    "http.client",
    "http.server",
    "urllib.request",
    "email.message",
    "socketserver",
)
PARTS = f"""
import sys, threading
from carbonmon_exporters.library_parts import spare_the_package
spare_the_package()
import carbonmon_exporters.answers
import carbonmon_exporters.ended.process
assert not set({LOADED_WITH_A_SERVER!r}) & set(sys.modules), set(sys.modules)
from prometheus_client.registry import CollectorRegistry
"""


def python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PARTS + program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "program",
    [
        "from prometheus_client import generate_latest; print(generate_latest(CollectorRegistry()))",
        "import prometheus_client; print(prometheus_client.generate_latest(CollectorRegistry()))",
        "from prometheus_client import *; print(generate_latest(CollectorRegistry()))",
        "from prometheus_client.core import Gauge; from prometheus_client import generate_latest as g\n"
        "print(g(CollectorRegistry()))",
        "from prometheus_client.exposition import generate_latest as g; print(g(CollectorRegistry()))",
    ],
)
def test_the_package_is_there_for_whoever_asks_for_it(program: str):
    assert python(program) == "b''"


def test_a_name_that_the_package_does_not_have_is_missing_before_and_after():
    program = (
        "import prometheus_client as package\n"
        "print(hasattr(package, '__none__'), hasattr(package, 'none_such'), 'ssl' in sys.modules, "
        "hasattr(package, 'none_such'), hasattr(package, 'Gauge'))"
    )
    assert python(program) == "False False True False True"


def test_threads_that_ask_at_once_all_have_it():
    program = """
import prometheus_client as package
together, found = threading.Barrier(8), []
def ask():
    together.wait()
    found.append(package.CollectorRegistry is CollectorRegistry)
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(found.count(True))
"""
    assert python(program) == "8"


def test_a_package_that_is_loaded_is_left_as_it_is():
    program = (
        "import prometheus_client\nGauge = prometheus_client.Gauge\nspare_the_package()\n"
        "print(Gauge is sys.modules['prometheus_client'].Gauge)"
    )
    assert python(program) == "True"


@pytest.mark.e2e
def test_scrapers_probes_and_curl_load_neither_openssl_nor_a_server(tmp_path: Path):
    process = command.start(["run", "--own-monitor", "--", "cat"], tmp_path, stdin=subprocess.PIPE)
    try:
        address = command.metrics_address(process)
        for path in ("metrics", "-/healthy", "-/ready", "nothing"):
            for headers in ({}, {"Connection": "keep-alive", "Accept": "application/openmetrics-text"}):
                request = urllib.request.Request(address.replace("metrics", path), headers=headers)
                try:
                    urllib.request.urlopen(request, timeout=command.DEADLINE_S).close()
                except urllib.error.HTTPError as error:
                    assert (path, error.code) == ("nothing", 404)
        mapped = Path(f"/proc/{process.pid}/maps").read_text()
    finally:
        process.communicate(input="", timeout=command.DEADLINE_S)
    assert "_ctypes." in mapped
    assert "_ssl." not in mapped
    assert "libssl" not in mapped

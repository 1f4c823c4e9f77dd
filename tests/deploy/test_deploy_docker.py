"""The image and the Compose file: linted, of least rights, and all that they name is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from carbonmon_exporters.prometheus import PrometheusExporter

from carbonmon.cli.daemon import command as daemon_command
from carbonmon.client.rendezvous import NODE_SOCKET
from carbonmon.core.ports import ExporterSettings
from tests.support import records

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "deploy" / "docker"
COMPOSE = [DOCKER / "compose.yaml", DOCKER / "compose.nvidia.yaml"]
LOOPBACK = "127.0.0.1"

Document = dict[str, Any]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name(str(words[0]))
    return subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False)


def compose(path: Path = COMPOSE[0]) -> Document:
    document: Document = yaml.safe_load(path.read_text())
    return document


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines in one."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


# ---- the image ----


def test_hadolint_finds_nothing_to_complain_about(tmp_path: Path):
    done = run("hadolint", "--failure-threshold", "style", DOCKER / "Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN apt-get install curl\n")
    assert run("hadolint", tmp_path / "Dockerfile").returncode != 0, "it does look"


def test_what_is_copied_reaches_the_builder_and_nothing_else():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        words.split()[:-1] for name, words in instructions() if name == "COPY" and "--from" not in words
    ]
    assert {source for sources in copied for source in sources} == kept
    for source in kept:
        assert (ROOT / source).exists(), source
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*", "all else is left out"


def test_the_image_is_pinned_to_a_minor_version_that_we_support():
    values = dict(words.split("=", 1) for name, words in instructions() if name == "ARG")
    assert re.fullmatch(r"3\.1[0-3]-slim-[a-z]+", values["PYTHON"])


def test_the_image_runs_as_a_user_without_rights_and_knows_whether_it_is_well():
    found = dict(instructions())
    assert found["USER"] == "10001:10001"
    assert "/-/healthy" in found["HEALTHCHECK"]


@pytest.mark.parametrize("is_well", [True, False])
def test_the_image_s_health_check_asks_the_endpoint(is_well: bool):
    program, option, code = json.loads(dict(instructions())["HEALTHCHECK"].partition("CMD")[2])
    exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", 0)))
    port = exporter.start(lambda: records.snapshot(())).split(":")[2].partition("/")[0]
    if not is_well:
        exporter.close()
    assert "/9877 " in code
    words = [program, option, code.replace("/9877 ", f"/{port} ")]
    done = subprocess.run(words, capture_output=True, check=False)
    exporter.close()
    assert (done.returncode == 0) is is_well, done.stderr


def test_the_image_compiles_python_s_own_modules_and_leaves_out_what_nothing_imports(tmp_path: Path):
    (words,) = [words for name, words in instructions() if name == "RUN" and "compileall" in words]
    said = re.fullmatch(r'python (-m compileall .*) "\$\(python -c \'(.*)\'\)"', words)
    assert said is not None, words
    where = subprocess.run([sys.executable, "-c", said[2]], capture_output=True, text=True, check=True)
    assert (Path(where.stdout.strip()) / "json" / "decoder.py").is_file(), "that is where they are"
    for name in ("json/decoder.py", "abc.py", "test/big.py", "site-packages/other.py", "idlelib/run.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("ANSWER = 42\n")
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # as images have it at times
    subprocess.run([sys.executable, *shlex.split(said[1]), tmp_path], check=True, env=environ)
    compiled = {
        path.parents[1].relative_to(tmp_path) / path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")
    }
    assert compiled == {Path("json/decoder"), Path("abc")}


def test_what_the_image_starts_are_words_of_our_command():
    found = dict(instructions())
    assert found["ENTRYPOINT"] == '["carbonmon"]'
    words = yaml.safe_load(found["CMD"])
    context = daemon_command.make_context(words[0], words[1:])
    assert context.params["listen"] == ("0.0.0.0", 9877)
    assert found["EXPOSE"] == "9877"


# ---- Compose ----


def test_the_compose_files_are_some_by_the_specification(tmp_path: Path):
    """One start for them and for two that are none: it takes seconds."""
    broken = [tmp_path / path.name for path in COMPOSE]
    for path, copy in zip(COMPOSE, broken, strict=True):
        copy.write_text(path.read_text().replace("services:", "service:"))
    done = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *COMPOSE, *broken)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert all(str(path) in said for path in broken), said
    assert not any(str(path) in said for path in COMPOSE), said


def test_everything_of_the_repository_that_is_mounted_is_there():
    for service in compose()["services"].values():
        for volume in service["volumes"]:
            source = volume["source"]
            if volume["type"] == "volume":
                assert source in compose()["volumes"]
            elif source.startswith("."):
                assert volume["read_only"] is True
                assert (DOCKER / source).is_dir(), source
            else:
                assert source in ("/sys", "/run/carbonmon", "/var/lib/carbonmon")
    build = compose()["services"]["carbonmon"]["build"]
    assert (DOCKER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


def test_the_configuration_files_that_are_named_are_in_the_folders_that_are_mounted():
    assert (ROOT / "deploy/prometheus/prometheus.yml").is_file()
    prometheus = compose()["services"]["prometheus"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in prometheus["command"]
    assert (prometheus["volumes"][0]["source"], prometheus["volumes"][0]["target"]) == (
        *("../prometheus", "/etc/prometheus"),
    )


def test_nothing_of_it_is_open_to_the_network():
    services = compose()["services"]
    for service in services.values():
        assert service["network_mode"] == "host"
        assert "ports" not in service
    assert f"--listen={LOOPBACK}:9877" in services["carbonmon"]["command"]
    assert f"--web.listen-address={LOOPBACK}:9090" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == LOOPBACK


def test_no_service_may_do_more_than_it_needs():
    for service in compose()["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert not service["image"].endswith(":latest")
        assert ":" in service["image"]
    daemon = compose()["services"]["carbonmon"]
    assert daemon["read_only"] is True
    for volume in daemon["volumes"]:
        assert volume.get("read_only", False) is (volume["source"] == "/sys")


def test_jobs_on_the_host_find_the_daemon_where_it_listens():
    daemon = compose()["services"]["carbonmon"]
    context = daemon_command.make_context("daemon", list(daemon["command"][1:]))
    assert context.params["socket"] == NODE_SOCKET
    assert str(NODE_SOCKET.parent) in {volume["target"] for volume in daemon["volumes"]}
    assert str(context.params["sysfs"]) in {volume["target"] for volume in daemon["volumes"]}


def test_the_file_for_gpus_adds_to_a_service_that_there_is():
    assert set(compose(COMPOSE[1])["services"]) <= set(compose()["services"])


def test_grafana_finds_its_dashboards_and_prometheus_where_they_are():
    services = compose()["services"]
    places = {volume["target"] for volume in services["grafana"]["volumes"]}
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    for path in provisioning.glob("dashboards/*.y*ml"):
        for provider in yaml.safe_load(path.read_text())["providers"]:
            assert provider["options"]["path"] in places
    for path in provisioning.glob("datasources/*.y*ml"):
        for source in yaml.safe_load(path.read_text())["datasources"]:
            assert re.fullmatch(r"http://(localhost|127\.0\.0\.1):9090/?", source["url"])

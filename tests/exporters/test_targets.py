"""The file that tells Prometheus where a monitor serves."""

from __future__ import annotations

import json
import logging
import os
import platform
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from carbonmon_exporters.endpoint import file_sd
from carbonmon_exporters.prometheus import PrometheusExporter

from carbonmon.core.ports import ExporterSettings
from tests.support.records import node


def entries(folder: Path) -> list[dict[str, object]]:
    return [entry for path in folder.glob("*.json") for entry in json.loads(path.read_bytes())]


def test_a_target_is_there_while_the_monitor_is(tmp_path: Path) -> None:
    folder = tmp_path / "targets"
    exporter = PrometheusExporter(ExporterSettings(listen=("127.0.0.1", 0), targets=folder))
    place = exporter.start(node)
    port = int(place.removesuffix("/metrics").rpartition(":")[2])
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o044 == 0o044, "Prometheus runs as another user"
    assert entries(folder) == [{"targets": [f"127.0.0.1:{port}"], "labels": {"__scheme__": "http"}}]
    exporter.close()
    assert list(folder.iterdir()) == []
    exporter.close()


def test_prometheus_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        file_sd.announce(tmp_path / "targets", "http", "127.0.0.1", 9878)
    finally:
        os.umask(before)
    (path,) = (tmp_path / "targets").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


@pytest.mark.parametrize("what", ["a file", "a link"])
def test_what_another_user_has_put_in_the_way_is_not_written_into(tmp_path: Path, what: str) -> None:
    """The folder may be open to all: a file of somebody else would stay theirs."""
    (tmp_path / "theirs").touch()
    way = tmp_path / f".carbonmon-{platform.node()}-9878.json.{os.getpid()}.tmp"
    way.symlink_to("theirs") if what == "a link" else way.hardlink_to(tmp_path / "theirs")
    file_sd.announce(tmp_path, "http", "127.0.0.1", 9878)
    assert len(entries(tmp_path)) == 1
    assert (tmp_path / "theirs").read_bytes() == b""
    assert not way.exists()


def test_the_next_monitor_at_an_address_replaces_what_a_killed_one_left(tmp_path: Path) -> None:
    file_sd.announce(tmp_path, "http", "127.0.0.1", 9877)
    file_sd.announce(tmp_path, "https", "127.0.0.1", 9877)
    file_sd.announce(tmp_path, "http", "127.0.0.1", 9878)
    found = sorted((entry["targets"], entry["labels"]) for entry in entries(tmp_path))  # type: ignore[type-var]
    assert found == [
        (["127.0.0.1:9877"], {"__scheme__": "https"}),
        (["127.0.0.1:9878"], {"__scheme__": "http"}),
    ]


@pytest.mark.parametrize(("address", "target"), [("::1", "[::1]:9877"), ("0.0.0.0", None)])
def test_addresses_are_those_that_prometheus_can_reach(
    tmp_path: Path, address: str, target: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(nodename="node7"))
    file_sd.announce(tmp_path, "http", address, 9877)
    assert entries(tmp_path)[0]["targets"] == [target or "node7:9877"]


def test_without_a_folder_the_job_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        assert file_sd.announce(tmp_path / "file" / "x", "http", "127.0.0.1", 9877) is None
    assert "--targets" in caplog.text

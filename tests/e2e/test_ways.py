"""Options on the ways into another process's monitor, as users meet them; the whole table: tests/service."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.simulator import Constant, Package, Simulator
from tests.support import command
from tests.support.daemon import daemon

pytestmark = pytest.mark.e2e


def machine() -> Simulator:
    return Simulator(packages=[Package(profile=Constant(100.0))])


def test_a_run_of_a_daemon_that_is_named_has_its_id_and_output_and_the_rest_is_told(tmp_path: Path):
    with machine() as sim, daemon(sim, tmp_path, "--region", "DE") as node:
        words = ["--run-id", "short", "--name", "mine", "--label", "team=vision", "--output", "kept"]
        done = command.run(
            ["run", *words, "--redact-command", "--region", "FR", "--pue", "1", "--", "true", "secret"],
            tmp_path,
            env={"CARBONMON_SOCKET": str(node.socket), "CARBONMON_REGOIN": "SE"},
        )
        assert done.returncode == 0, done.stderr
        assert "not followed, as the monitor at" in done.stderr
        assert done.stderr.count("--region FR (it uses DE)") == 1
        assert "--pue" not in done.stderr, "the daemon does that anyway"
        assert "did you mean CARBONMON_REGION?" in done.stderr
        summary = json.loads((tmp_path / "kept" / "short" / "summary.json").read_text())
        assert summary["run"]["name"] == "mine"
        assert summary["run"]["labels"] == {"team": "vision"}
        assert summary["run"]["command"] == ["true", "…"]
        assert node.summary("short") == summary
        again = command.run(
            ["run", "--run-id", "short", "--output", str(node.output), "--", "true"],
            tmp_path,
            env={"CARBONMON_SOCKET": str(node.socket)},
        )
        assert "--run-id short (it is short-2, as" in again.stderr
        assert sorted(path.name for path in node.output.iterdir() if "short" in path.name) == [
            "short",
            "short-2",
        ], "no second copy beside the daemon's own"
        node.stop()


def test_a_file_that_says_what_the_daemon_does_keeps_no_run_away_from_it(tmp_path: Path):
    (tmp_path / "runtime" / "carbonmon").mkdir(parents=True, mode=0o700)
    socket = str(tmp_path / "runtime" / "carbonmon" / "daemon.sock")
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "runtime"), "CARBONMON_LISTEN": ""}
    with machine() as sim, daemon(sim, tmp_path, "--socket", socket, "--interval", "1") as node:
        (tmp_path / "carbonmon.toml").write_text("interval = 1\n")
        joined = command.run(["run", "--", "true"], tmp_path, env=environ)
        assert "part of run" in joined.stderr
        (tmp_path / "carbonmon.toml").write_text("interval = 2\n")
        alone = command.run(["run", "--sensor", "tdp", "--", "true"], tmp_path, env=environ)
        assert "part of run" not in alone.stderr
        assert "carbonmon.toml: interval = 2 (it uses 1)" in alone.stderr
        node.stop()


def test_training_code_in_a_run_is_told_which_of_its_arguments_come_too_late(tmp_path: Path):
    code = (
        "import carbonmon\n"
        "for _ in range(2):\n"
        "    with carbonmon.track(name='mine', region='FR', labels={'a': 1}): pass\n"
    )
    words = ["--region", "DE", "--label", "a=1", "--sensor", "tdp"]
    done = command.run(
        ["run", *words, "--", sys.executable, "-c", code],
        tmp_path,
        env={"CARBONMON_REGION": "PL"},
    )
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if "not followed" in line]
    assert len(lines) == 1
    assert "track(region='FR') (it uses DE)" in lines[0]
    assert "track(name='mine')" in lines[0]
    assert "labels" not in lines[0], "the run has them"
    assert "CARBONMON_REGION" not in done.stderr, "carbonmon run has seen it, and a flag goes before it"


def test_a_run_inside_of_a_run_names_what_it_cannot_change(tmp_path: Path):
    inner = f"{command.CARBONMON} run --region FR --run-id inner --output kept -- sh -c 'exit 5'"
    done = command.run(
        ["run", "--region", "DE", "--run-id", "outer", "--sensor", "tdp", "--", "sh", "-c", inner], tmp_path
    )
    assert done.returncode == 5
    (line,) = [line for line in done.stderr.splitlines() if "not followed" in line]
    for part in ("--region FR (it uses DE)", "--run-id inner (it is outer)", f"--output {tmp_path / 'kept'}"):
        assert part in line

"""Mistakes that people make: a clear error before the job starts, and exit code 2."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support import command

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--region", "Frnace"], "France"),
        (["--region", "FR", "--intensity", "50"], "exclude one another"),
        (["--intensity", "-1"], "--intensity"),
        (["--intensity", "nan"], "--intensity"),
        (["--intensity", "much"], "--intensity"),
        (["--pue", "-1"], "--pue"),
        (["--pue", "0.9"], "from 1 to 10"),
        (["--pue", "nan"], "--pue"),
        (["--interval", "0.01"], "from 0.05 to 3600"),
        (["--interval", "3601"], "from 0.05 to 3600"),
        (["--interval", "soon"], "--interval"),
        (["--listen", "nonsense"], "ADDRESS:PORT"),
        (["--listen", "127.0.0.1:99999"], "ADDRESS:PORT"),
        (["--output", "/dev/null/runs"], "cannot be written"),
        (["--run-id", "a/b"], "letters, digits"),
        (["--run-id", ".."], "letters, digits"),
        (["--run-id", "x" * 65], "1 to 64"),
        (["--label", "team"], "KEY=VALUE"),
        (["--gpus", "first"], "neither an index nor a UUID"),
        (
            ["--sysfs", "nowhere"],
            "--sysfs: there is no folder nowhere; name where the host's /sys is mounted",
        ),
        (["--procfs", "nowhere"], "--procfs: there is no folder nowhere"),
        (["--budget", "1kWh", "--on-budget", "notify:no-such-command"], "no command 'no-such-command'"),
        (["--gpu-model", "A1000000"], "the table has no GPU"),
        (["--gpu-model", "H100 80GB HBM3 of mine"], "the nearest are"),
        (["--gpu-model", "H100 80GB HBM3 x0"], "NAME:COUNT"),
        (["--cpu-model", "EPYC 7742 x2"], "names 2 CPUs"),
        (["--sensor", "rapl", "--cpu-model", "EPYC 77420"], "the table has no CPU"),
        (["--gpu-tdp", "0"], "--gpu-tdp"),
        (["--sensor", "nvlm"], "did you mean nvml"),
        (["--exporter", "promtheus"], "did you mean prometheus"),
        (["--sensor", "replay"], "--sensor replay:FILE"),
        (["--regoin", "FR"], "there is no option '--regoin'; did you mean '--region'?"),
    ],
)
def test_a_wrong_option_is_named_and_the_job_is_not_started(
    tmp_path: Path, arguments: list[str], expected: str
):
    done = command.run(["run", *arguments, "--", "touch", "started"], tmp_path)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "started").exists()


def test_no_command_is_an_error_that_shows_how(tmp_path: Path):
    done = command.run(["run"], tmp_path)
    assert done.returncode == 2
    assert "carbonmon run -- python train.py" in done.stderr


def test_a_finished_run_id_is_refused(tmp_path: Path):
    assert command.run(["run", "--run-id", "mine", "--", "true"], tmp_path).returncode == 0
    done = command.run(["run", "--run-id", "mine", "--", "touch", "started"], tmp_path)
    assert done.returncode == 2
    assert "has already finished" in done.stderr
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('region = "FR', "line 1"),
        ("\n\npue = = 2", "line 3"),
        ('regoin = "FR"', "did you mean 'region'"),
        ("pue = true", "'pue' must be a text or a number"),
        ("pue = 0.5", "--pue"),
        ("quiet = 3", "'quiet' must be true or false"),
        ("label = 5", "'label' must be a table or a list"),
        ("\xff", "not valid TOML"),
    ],
)
def test_a_malformed_toml_file_is_named_with_line_or_key(tmp_path: Path, text: str, expected: str):
    (tmp_path / "carbonmon.toml").write_bytes(text.encode("latin-1"))
    done = command.run(["run", "--", "touch", "started"], tmp_path)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "started").exists()


def test_a_config_file_that_does_not_exist_is_named(tmp_path: Path):
    done = command.run(["run", "--config", "nowhere.toml", "--", "true"], tmp_path)
    assert done.returncode == 2
    assert "nowhere.toml" in done.stderr


def test_flags_beat_the_environment_which_beats_the_file(tmp_path: Path):
    (tmp_path / "carbonmon.toml").write_text(
        'intensity = 111\npue = 1.5\nname = "from file"\nlabel = { team = "vision", cost = "7" }\n'
    )
    env = {"CARBONMON_INTENSITY": "222", "CARBONMON_NAME": "from environment"}
    done = command.run(["run", "--intensity", "333", "--", "true"], tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    document = command.summary(tmp_path)
    assert document["carbon"]["intensity"]["mean_g_per_kwh"] == pytest.approx(333.0)
    assert document["run"]["name"] == "from environment"
    assert document["carbon"]["pue"] == 1.5
    assert document["run"]["labels"] == {"team": "vision", "cost": "7"}


def test_a_working_folder_that_is_gone_does_not_keep_the_job_from_starting(tmp_path: Path):
    """No output was asked for: the run is kept in the temporary folder, and one line says where."""
    (tmp_path / "gone").mkdir()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cm-") as temporary:
        done = subprocess.run(
            [
                "sh",
                "-c",
                'rmdir "$PWD"; exec "$@"',
                "sh",
                command.CARBONMON,
                "run",
                "--own-monitor",
                "--",
                "echo",
                "ran",
            ],
            cwd=tmp_path / "gone",
            env=command.environ(CARBONMON_LISTEN="127.0.0.1:0", TMPDIR=temporary, XDG_RUNTIME_DIR=""),
            capture_output=True,
            text=True,
            timeout=command.DEADLINE_S,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
        (summary,) = Path(temporary).glob("carbonmon-*/runs/*/summary.json")
        assert done.stderr.count(f"this run is kept in {summary.parent}\n") == 1

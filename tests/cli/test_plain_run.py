"""A plain `carbonmon run` is read without click, and as click reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonmon.cli import given as names
from carbonmon.cli import options, plain_run, run
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.ways import OPTIONS
from tests.support.effort import examples

Read = tuple[Config, tuple[str, ...], set[str]]
"""Choices, job, and the options that were given."""

JOB = ["python", "train.py", "--region", "x"]

VALUES: dict[str, list[str]] = {
    "region": ["FR", "", "aws:us-east-1", "nowhere"],
    "intensity": ["56", "0.056kg", "-1", "x", "0.5"],
    "pue": ["1.2", "world", "0.5", ""],
    "interval": ["1", "0.05", "0.01", "1e9", "1,5", ""],
    "checkpoint": ["5", "0.1", "nan"],
    "listen": ["127.0.0.1:0", "[::1]:9877", ":1", "9877", "a:99999"],
    "output": ["runs", "/tmp/x", "", "a=b"],
    "run-id": ["mine", "last", "a/b", "x" * 65],
    "name": ["a name", "", "träin\udce9"],
    "gpus": ["0,1", "", "0,,1", "GPU-1", "all"],
    "gpu-model": ["A100:2", ""],
    "gpu-tdp": ["300", "0", "x"],
    "cpu-model": ["EPYC"],
    "cpu-tdp": ["150.5", "1e6"],
    "idle": ["none", "exclusive", "NONE", ""],
    "sysfs": ["/sys", "gone"],
    "procfs": ["/proc"],
    "sensor": ["nvml,rapl", "", "replay:x.csv", ","],
    "node-meter": ["", "acpi"],
    "exporter": ["summary", "", "textfile:/tmp"],
}
FLAGS = sorted(plain_run._FLAGS)


def by_click(words: list[str], environ: Mapping[str, str] | None = None) -> Read | None:
    """The same by the command itself; None for a mistake."""
    try:
        with patch.dict(os.environ, environ or {}), run.command.make_context("run", list(words)) as ctx:
            values: dict[str, Any] = dict(ctx.params)
            job = values.pop("job")
            for name in ("start", "run_h", "within_h"):
                values.pop(name)
            config = options.to_config(values)
            run._check_job(job, config)
            return config, job, names.given(ctx) & OPTIONS.keys()
    except click.ClickException:
        return None


def by_us(words: list[str], environ: Mapping[str, str] | None = None) -> Read | None:
    try:
        return plain_run.plain_words(words, environ or {})
    except ConfigError:
        return None


WORDS = st.one_of(
    st.sampled_from(sorted(VALUES)).flatmap(
        lambda name: st.sampled_from(VALUES[name]).flatmap(
            lambda text: st.sampled_from([[f"--{name}", text], [f"--{name}={text}"], [f"--{name}"]])
        )
    ),
    st.sampled_from([[f"--{name}"] for name in FLAGS] + [[f"--{name}=1"] for name in FLAGS]),
    st.sampled_from(
        [["--budget", "1kWh"], ["--quie"], ["-q"], ["--help"], ["--label", "a=b"], ["--=x"], ["-"]]
    ),
)


VARIABLE = st.one_of(
    st.sampled_from(sorted(VALUES)).flatmap(
        lambda name: st.sampled_from(VALUES[name]).map(lambda text: (name, text))
    ),
    st.sampled_from(
        [("quiet", "1"), ("own-monitor", "no"), ("grid", "uk"), ("price", "0.3"), ("label", "a=b")]
    ),
)


@given(
    st.lists(WORDS, max_size=5),
    st.lists(VARIABLE, max_size=2),
    st.sampled_from([["--", *JOB], JOB, ["--"], [], ["--", ""], ["--", "-x"]]),
)
@examples(400)
def test_what_is_plain_is_read_as_the_command_reads_it(
    given_words: list[list[str]], variables: list[tuple[str, str]], job: list[str]
):
    words = [*(word for words in given_words for word in words), *job]
    environ = {OPTIONS[name].variable: text for name, text in variables}
    ours = by_us(words, environ)
    if ours is not None:
        assert ours == by_click(words, environ)


@pytest.mark.parametrize("name", [*VALUES, *FLAGS])
def test_every_plain_option_is_taken_with_its_first_value(name: str):
    words = [f"--{name}", *(VALUES[name][:1] if name in VALUES else [])]
    ours = by_us([*words, "--", *JOB])
    assert ours is not None
    assert ours == by_click([*words, "--", *JOB])
    assert getattr(ours[0], OPTIONS[name].field or "") is not None


@pytest.mark.parametrize("name", VALUES)
def test_every_plain_option_is_taken_from_its_variable_where_the_command_line_has_none(name: str):
    text = next(filter(None, VALUES[name]))
    environ = {OPTIONS[name].variable: text}
    ours = by_us(JOB, environ)
    assert ours is not None
    assert ours == by_click(JOB, environ)
    assert ours[:2] == by_us([f"--{name}={text}", *JOB])[:2]
    for other in filter(None, VALUES[name]):
        there = by_us([f"--{name}={text}", *JOB], {OPTIONS[name].variable: other})
        assert there == ours, "the command line goes first"


def test_without_an_option_it_is_plain_and_like_the_command():
    assert by_us(JOB) == by_click(JOB)
    assert by_us(["--", *JOB]) == by_us(JOB)


def test_what_was_given_is_known():
    chosen = plain_run.plain_words(["--region=FR", "--quiet", "true"], {"CARBONMON_NAME": "mine"})
    assert chosen is not None
    assert chosen.given == {"region", "quiet", "name"}


ALL_ELSE = {
    "GRID": "electricitymaps",
    "OWN_MONITOR": "1",
    "REGION": "",
    "PUE": "0.1",
    "OFF": "1",
    "RUN": "run-1",
}
"""Variables that are no plain options, or mistakes."""


@pytest.mark.parametrize(
    "why", [*ALL_ELSE, "completion", "file", "user's file", "monitor", "rank", "mistake"]
)
def test_all_else_is_left_to_the_command(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    sockets: list[Path] = []
    monkeypatch.setattr(plain_run, "monitor_sockets", lambda environ: iter(sockets))
    started: list[object] = []
    monkeypatch.setattr(plain_run, "run_alone", lambda *given: started.append(given) or 7)
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    words = ["--quiet", "--", "true"]
    assert plain_run.run(words, environ) == 7
    if why in ALL_ELSE:
        environ[f"CARBONMON_{why}"] = ALL_ELSE[why]
    elif why == "completion":
        environ["_CARBONMON_COMPLETE"] = "bash_source"
    elif why == "file":
        (tmp_path / "carbonmon.toml").write_text('region = "FR"\n')
    elif why == "user's file":
        (tmp_path / "config" / "carbonmon").mkdir(parents=True)
        (tmp_path / "config" / "carbonmon" / "carbonmon.toml").write_text('region = "FR"\n')
    elif why == "monitor":
        sockets.append(Path("run-1.sock"))
    elif why == "rank":
        environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    elif why == "mistake":
        words = ["--interval", "0", "--", "true"]
    assert plain_run.run(words, environ) is None
    assert len(started) == 1
    if why in ("monitor", "rank"):
        assert plain_run.run(["--own-monitor", *words], environ) == 7


HEAVY = ("click", "inspect", "dataclasses", "psutil", "prometheus_client", "pynvml", "pyRAPL", "ssl", "http")

PROGRAM = """
import sys
from carbonmon.__main__ import main
options = ["--own-monitor", "--sensor", "tdp,dram", "--output", sys.argv[1]]
sys.argv = ["carbonmon", "run", *options, "--", "true"]
try:
    main()
except SystemExit as end:
    print(end.code, *sorted(set(sys.modules) & {modules}))
"""


@pytest.mark.e2e
def test_a_plain_run_loads_nothing_that_it_does_not_use(tmp_path: Path):
    environ = {name: value for name, value in os.environ.items() if "CARBONMON_" not in name}
    program = PROGRAM.replace("{modules}", repr(set(HEAVY)))
    argv = [sys.executable, "-c", program, str(tmp_path / "runs")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert done.stdout == "0\n", done.stderr
    assert (tmp_path / "runs").is_dir()


@pytest.mark.e2e
def test_a_mistake_that_shows_when_the_words_were_read_is_said_once_with_its_usage(tmp_path: Path):
    environ = {name: value for name, value in os.environ.items() if "CARBONMON_" not in name}
    argv = [
        sys.executable,
        "-m",
        "carbonmon",
        "run",
        "--own-monitor",
        "--sensor",
        "none-such",
        "--",
        "srun",
        "x",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("srun's tasks are") == 1
    assert done.stderr.count("Usage: ") == 1
    assert done.stderr.count("there is no 'none-such'") == 1


NOBODY = 65534


def test_a_folder_that_may_not_be_entered_is_no_crash(tmp_path: Path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    is_root = os.geteuid() == 0
    if is_root:  # who enters every folder
        os.seteuid(NOBODY)
    try:
        chosen = plain_run.plain_words(["--output", str(closed / "runs"), "true"], {})
    finally:
        if is_root:
            os.seteuid(0)
    assert chosen is not None
    assert chosen.config.output == closed / "runs"

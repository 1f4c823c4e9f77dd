"""The walks of docs/use/runs.md: each command works as it is written, and prints what the page shows."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.run_folders import KWH_J, a_run, carbonmon

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "use" / "runs.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
START_S = 1_793_442_600.0
"""2026-10-31 10:30 UTC, half a day before November."""

RUNS = (
    ("20261031-103000-vit", "vit", 0.0, 3600.0, 1.31, True),
    ("20261031-123000-vit", "vit", 7200.0, 3720.0, 1.36, True),
    ("20261031-143000-vit", "vit", 14_400.0, 3540.0, 1.29, True),
    ("20261031-203000-bert", "bert", 36_000.0, 14_400.0, 2.4, True),
    ("20261101-093000-vit-small", "vit-small", 82_800.0, 3000.0, 0.98, True),
    ("20261101-113000-probe", "probe", 90_000.0, 120.0, 0.012, False),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which the runs of the page were run, by a user that every machine has."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as clock:
        clock.setenv("TZ", "UTC")
        time.tzset()
        make_runs(tmp_path)
        yield tmp_path
    time.tzset()


def make_runs(folder: Path) -> None:
    for run_id, name, after_s, duration_s, kwh, measured in RUNS:
        start_s = START_S + after_s
        rows = [(start_s + duration_s * part / 100, kwh * KWH_J / 100) for part in range(1, 101)]
        labels = (("team", "vision"),) if "vit" in name else ()
        a_run(
            folder / "carbonmon-runs",
            run_id,
            name=name,
            start_s=start_s,
            duration_s=duration_s,
            kwh=kwh,
            uid=0,
            labels=labels,
            drawn=rows,
            measured=measured,
        )


def walks() -> list[tuple[str, str]]:
    """(command, what the page shows of its output) of each prompt."""
    found = []
    for block in BLOCKS:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, shown = part.partition("\n")
            found.append((re.split(r"\s+#|\s+>", line)[0].strip(), shown.strip("\n")))
    return found


@pytest.mark.parametrize(("line", "shown"), walks(), ids=[line for line, _ in walks()])
def test_a_walk_of_the_page_goes_as_it_is_written(line: str, shown: str, here: Path):
    program, *arguments = shlex.split(line)
    assert program == "carbonmon"
    done = carbonmon(*arguments, code=1 if "--fail-above" in line else 0)
    output = [text.rstrip() for text in done.stdout.splitlines()]
    for text in shown.splitlines():
        assert text.rstrip() in output, "\n".join(output)


def test_every_filter_and_key_is_on_the_page():
    from carbonmon.cli.runs import command

    options = {param.opts[0] for param in command.params if param.opts[0].startswith("--")}
    shared = {"--config", "--log-level", "--log-format"}
    assert {option for option in options - shared if f"`{option}" not in PAGE and option not in PAGE} == set()

"""With CARBONMON_OFF=1 `carbonmon run` becomes the job, and `carbonmon phase` does nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support import command
from tests.support.rows import for_each_row

PIDS = "import os; print(os.getpid())"


@for_each_row(
    ("words", "code", "said", "errors"),
    [
        (["run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"], 7, "out\n", "err\n"),
        (["run", "--region", "nowhere", "--no-such-option", "--", "sh", "-c", "exit 3"], 3, "", ""),
        (["run", "--interval", "1e9", "sh", "-c", "exit 4"], 4, "", ""),
        (["run", "--", "no-such-command"], 127, "", "no-such-command: No such file or directory\n"),
        (["run", "--", "/"], 126, "", "/: Permission denied\n"),
        (["run", "--", "sh", "-c", "kill -TERM $$"], -15, "", ""),
        (["run", "--attach", "1"], 0, "", ""),
        (["phase", "train"], 0, "", ""),
    ],
)
def test_a_command_is_as_if_carbonmon_were_not_there(
    tmp_path: Path, words: list[str], code: int, said: str, errors: str
):
    (tmp_path / "carbonmon.toml").write_text("no = 'such key'")
    done = command.run(words, tmp_path, env={"CARBONMON_OFF": "1", "CARBONMON_REGION": "nowhere"})
    assert (done.returncode, done.stdout, done.stderr) == (code, said, errors)
    assert [path.name for path in tmp_path.iterdir()] == ["carbonmon.toml"]


def test_the_job_takes_the_place_of_the_command(tmp_path: Path):
    process = command.start(
        ["run", "--", sys.executable, "-c", PIDS], tmp_path, env={"CARBONMON_DISABLE": "1"}
    )
    said, _ = process.communicate(timeout=command.DEADLINE_S)
    assert said == f"{process.pid}\n"


def test_without_a_command_there_is_still_the_error(tmp_path: Path):
    done = command.run(["run"], tmp_path, env={"CARBONMON_OFF": "1"})
    assert done.returncode == 2
    assert "give a command after two hyphens" in done.stderr

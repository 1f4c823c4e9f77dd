"""What people type by mistake, and what they are told: the mistake, and how to mend it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import command
from tests.support.rows import for_each_row

FILES = {
    "train.py": "print(1)\n",
    "job.sh": "true\n",
    "unquoted.toml": "region = FR\n",
    "heading.toml": '[run]\nregion = "FR"\n',
    "misspelt.toml": 'regoin = "FR"\n',
}

# Words behind `carbonmon`, those with "=" for the environment; the exit code; what is said.
MISTAKES: list[tuple[str, int, str]] = [
    ("rum -- true", 2, "there is no command 'rum'; did you mean 'run'?"),
    ("raport", 2, "did you mean 'report'?"),
    ("list", 2, "use: carbonmon runs"),
    ("help", 2, "use: carbonmon --help"),
    ("version", 2, "use: carbonmon --version"),
    ("status", 2, "use: carbonmon doctor"),
    ("train.py", 2, "to meter a job: carbonmon run -- python train.py"),
    ("sleep 1", 2, "to meter a job: carbonmon run -- sleep"),
    ("run -- train.py", 127, "use: carbonmon run -- python train.py"),
    ("run -- ./train.py", 126, "use: carbonmon run -- python ./train.py"),
    ("run -- ./job.sh", 126, "name its interpreter, or: chmod +x ./job.sh"),
    ("run -- job.sh", 127, "for the file in this folder: ./job.sh"),
    ("run -- sleep|1", 127, "drop the quotes: carbonmon run -- sleep 1"),
    ("run -- no-such-command", 127, "no-such-command: No such file or directory"),
    ("run", 2, "carbonmon run -- python train.py"),
    ("run --config unquoted.toml -- true", 2, 'quote texts: region = "…"'),
    ("run --config heading.toml -- true", 2, "[run] is no option: they stand at the top, without a heading"),
    ("run --config misspelt.toml -- true", 2, "did you mean 'region'?"),
    (
        "CARBONMON_INTERVAL=abc run -- true",
        2,
        "CARBONMON_INTERVAL: --interval: 'abc' is not an interval in seconds",
    ),
    ("CARBONMON_LISTEN=here run -- true", 2, "CARBONMON_LISTEN: --listen: 'here' is not ADDRESS:PORT"),
    ("run --interval abc -- true", 2, "--interval: 'abc' is not an interval in seconds"),
    ("run --gpu-model A100:x -- true", 2, "--gpu-model: 'x' behind the colon is no count"),
    ("run --gpu-model H1000 -- true", 2, "the nearest are"),
    ("run --label team -- true", 2, "'team' is not KEY=VALUE"),
    ("run --gpus zero -- true", 2, "'zero' is neither an index nor a UUID"),
    ("report", 2, "name a RUN: its folder, its summary.json, or its id"),
    ("report .", 2, "'.' is no folder of a run"),
    ("report train.py", 2, "'train.py' is no summary; give a run's folder, or its summary.json"),
    ("report no-such-run", 2, "no run 'no-such-run' in carbonmon-runs"),
]


@for_each_row(("typed", "code", "says"), MISTAKES)
def test_the_message_names_the_mistake_and_the_mend(tmp_path: Path, typed: str, code: int, says: str):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    words = [word.replace("|", " ") for word in typed.split()]
    env = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    done: subprocess.CompletedProcess[str] = command.run(words, tmp_path, env=env)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    runs = tmp_path / "carbonmon-runs"
    assert not runs.exists() or list(runs.iterdir()) == [], "a job that never started leaves no folder"


def test_a_folder_of_runs_is_called_that(tmp_path: Path):
    for _ in range(2):
        assert command.run(["run", "--", "true"], tmp_path).returncode == 0
    done = command.run(["report", "carbonmon-runs"], tmp_path)
    assert done.returncode == 2
    assert "'carbonmon-runs' is a folder of 2 runs: name one, for instance carbonmon-runs/" in done.stderr
    assert "its runs are in carbonmon-runs" in command.run(["report", "."], tmp_path).stderr

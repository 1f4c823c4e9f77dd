"""What people type by mistake, and what they are told: the mistake, and how to mend it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from carbonmon.cli.given import with_source
from carbonmon.core.ways import OPTIONS as ALL_OPTIONS
from carbonmon.core.ways import Choice
from tests.support import command
from tests.support.forked import Forked, Started, commands
from tests.support.rows import for_each_row

pytestmark = pytest.mark.timeout(300)  # each row is a process, and there are many

FILES = {
    "train.py": "print(1)\n",
    "job.sh": "true\n",
    "training.ipynb": "{}\n",
    "train.log": "epoch 1\n",
    "results.csv": "epoch,loss\n1,0.3\n",
    "kilograms.csv": "time,intensity\n2026-11-21T12:00Z,0.38\n2026-11-21T13:00Z,0.41\n",
    "parts.toml": '[[part]]\ngpu = "A100 SXM4 80GB"\nhours = 1\nintensity = 0.4\n',
    "model.json": '{"layers": 3}\n',
    "unquoted.toml": "region = FR\n",
    "heading.toml": '[run]\nregion = "FR"\n',
    "misspelt.toml": 'regoin = "FR"\n',
    "variable.toml": 'CARBONMON_REGION = "FR"\n',
    "settings.yaml": "region: FR\n",
    "settings.json": '{"region": "FR"}\n',
    "comma.toml": "pue = 1,2\n",
    "python.toml": "quiet = True\n",
    "none.toml": "region = None\n",
    "typographic.toml": "region = “FR”\n",
    "open.toml": 'region = "FR\n',
    "twice.toml": "pue = 1\npue = 2\n",
    "text.toml": 'quiet = "very"\n',
    "label.toml": 'label = "team"\n',
    "value.toml": 'interval = "1s"\n',
    "folder/notes.txt": "none\n",
}

# Words behind `carbonmon`, those with "=" before them for the environment; the exit code; what is said.
Mistake = tuple[str, int, str]

COMMANDS: list[Mistake] = [
    ("rum -- true", 2, "there is no command 'rum'; did you mean 'run'?"),
    ("raport", 2, "did you mean 'report'?"),
    ("region FR", 2, "did you mean 'regions'?"),
    ("list", 2, "use: carbonmon runs"),
    ("help", 2, "use: carbonmon --help"),
    ("version", 2, "use: carbonmon --version"),
    ("-V", 2, "use: --version"),
    ("status", 2, "use: carbonmon doctor"),
    ("last", 2, "use: carbonmon report last"),
    ("config", 2, "each option is also a key of carbonmon.toml"),
    ("upgrade", 2, "use: pip install --upgrade carbonmon"),
    ("login", 2, "there is no account"),
    ("train.py", 2, "to meter a job: carbonmon run -- python train.py"),
    ("sleep 1", 2, "to meter a job: carbonmon run -- sleep"),
    ("carbonmon run -- true", 2, "leave the second 'carbonmon' out"),
    ("--run -- true", 2, "use: carbonmon run"),
    ("daemon start", 2, "carbonmon daemon takes options only"),
    ("doctor json", 2, "use: carbonmon doctor --json"),
    ("doctor FR", 2, "carbonmon doctor takes options only"),
    ("runs list", 2, "use: carbonmon runs, without a word behind it"),
    ("runs last", 2, "for one run: carbonmon report last"),
    ("runs delete old", 2, "use: carbonmon runs prune"),
    ("runs -- sleep 1", 2, "to meter a job: carbonmon run -- sleep"),
]

JOBS: list[Mistake] = [
    ("run", 2, "carbonmon run -- python train.py"),
    ("run -- ''", 2, "the command behind -- is empty"),
    ("run --attach 1 -- true", 2, "leave 'true' out, or it"),
    ("run --attach python", 2, "--attach: 'python' is not a whole number of at least 1: --attach PID"),
    ("run --attach 99999999", 2, "--attach: process 99999999: No such process"),
    ("run -- train.py", 127, "use: carbonmon run -- python train.py"),
    ("run -- ./train.py", 126, "use: carbonmon run -- python ./train.py"),
    ("run -- ./job.sh", 126, "name its interpreter, or: chmod +x ./job.sh"),
    ("run -- job.sh", 127, "for the file in this folder: ./job.sh"),
    ("run training.ipynb", 127, "carbonmon run -- jupyter execute training.ipynb, or carbonmon.track()"),
    ("run -- ./folder", 126, "it is a folder; name the program in it"),
    ("run -- 'sleep 1'", 127, "drop the quotes: carbonmon run -- sleep 1"),
    ("run 'sleep 1'", 127, "drop the quotes: carbonmon run -- sleep 1"),
    ("run -- . venv/bin/activate", 126, ". needs a shell: carbonmon run -- sh -c '. venv/bin/activate'"),
    ("run -- 'sleep 1 | cat'", 127, "| needs a shell: carbonmon run -- sh -c 'sleep 1 | cat'"),
    ("run -- cd folder", 127, "cd needs a shell: carbonmon run -- sh -c 'cd folder'"),
    (
        "run -- SEED=1 python a.py",
        127,
        "variables stand before carbonmon: SEED=1 carbonmon run -- python a.py",
    ),
    ("run -- '~/train.py'", 127, "a shell opens ~ only outside of quotes: carbonmon run -- ~/train.py"),
    ("run -- bahs job.sh", 127, "did you mean 'bash'? carbonmon run -- bash job.sh"),
    ("run -- no-such-command", 127, "no program of that name is in PATH: activate its environment"),
]

OPTIONS: list[Mistake] = [
    ("run --regoin FR -- true", 2, "there is no option '--regoin'; did you mean '--region'?"),
    ("run --zone FR -- true", 2, "there is no option '--zone'; use: --region FR"),
    ("run --country FR -- true", 2, "use: --region FR"),
    ("run --gpu 0 -- true", 2, "use: --gpus 0,1"),
    ("run --port 9000 -- true", 2, "use: --listen 127.0.0.1:PORT"),
    ("run --project vision -- true", 2, "use: --name NAME"),
    ("run -o results -- true", 2, "use: --output DIR"),
    ("run -v -- true", 2, "use: --log-level info"),
    ("run --on-budget stop -- true", 2, "--on-budget does nothing alone: give --budget 2kWh as well"),
    ("run --currency EUR -- true", 2, "--currency does nothing alone: give --price"),
    ("run --price 0.3 -- true", 2, "--price needs its currency: give for example --currency EUR"),
    ("run --budget 5EUR -- true", 2, "give --price and --currency EUR"),
    ("run --region FR --intensity 50 -- true", 2, "exclude one another: give the place or the figure"),
    ("run --resume a --run-id b -- true", 2, "--resume names the run already: leave --run-id out"),
    ("run --start greenest -- true", 2, "--start greenest --for HOURS --within HOURS"),
    ("run --grid uk --region FR -- true", 2, "uk covers Great Britain only, and the region is FR"),
    ("run --grid electricitymaps -- true", 2, "electricitymaps needs a place; give --region FR"),
    ("report last --json", 2, "use: --format json"),
    ("report last --format pdf", 2, "--format: 'pdf' is none of text, json,"),
    ("phase --name train", 2, "use: carbonmon phase NAME"),
    ("unregister --run-id x", 2, "use: carbonmon unregister RUN_ID"),
    ("compare --rounds 5 true --versus true", 2, "carbonmon compare --rounds N -- COMMAND --versus COMMAND"),
    ("when --within 4", 2, "--for HOURS is missing: How long the run takes"),
    ("settle", 2, "name a RUN: its folder, its id, its name, or last: carbonmon settle RUN…"),
    ("estimate --gpus 8 --hours 2", 2, "use: --gpu NAME:COUNT"),
]

VALUES: list[Mistake] = [
    ("run --interval abc -- true", 2, "--interval: 'abc' is not an interval in seconds"),
    ("run --interval 100ms -- true", 2, "from 0.05 to 3600, without the unit 'ms'"),
    ("run --interval 0,5 -- true", 2, "with a point in place of the comma"),
    ("run --pue 120% -- true", 2, "give a number from 1 to 10, without the unit '%'"),
    ("run --intensity 0.4 -- true", 2, "were kilograms meant? Then give 400; if grams were, 0.4g"),
    ("run --gpu-tdp 400W -- true", 2, "without the unit 'W'"),
    ("run --listen 9000 -- true", 2, "is not ADDRESS:PORT; give for example 127.0.0.1:9000"),
    ("run --listen 127.0.0.1:99999 -- true", 2, "a port is at most 65535"),
    ("run --listen http://localhost:1 -- true", 2, "is not ADDRESS:PORT; give for example 127.0.0.1:9877"),
    ("run --gpu-model A100:x -- true", 2, "--gpu-model: 'x' behind the colon is no count"),
    ("run --gpu-model H1000 -- true", 2, "the nearest are"),
    ("run --cpu-model 'Epyc 7742x' -- true", 2, "the nearest are AMD EPYC 7742,"),
    ("run --label team -- true", 2, "'team' is not KEY=VALUE; give for example --label team=vision"),
    ("run --gpus zero -- true", 2, "'zero' is neither an index nor a UUID"),
    ("run --gpus 0-3 -- true", 2, "for a range write 0,1,2,3"),
    ("run --gpus all -- true", 2, "for all leave it out"),
    ("run --gpus '0 1' -- true", 2, "separate them by commas: 0,1"),
    ("run --region Frnace -- true", 2, "region 'Frnace' is unknown; the nearest are FR (France)"),
    ("run --region us-east-1 -- true", 2, "the nearest are aws:us-east-1"),
    ("run --region= -- true", 2, "no place is given, as by a variable that is not set"),
    ("run --output '' -- true", 2, "--output: the path is empty"),
    ("run --output train.py -- true", 2, "--output: train.py is not a folder"),
    ("run --run-id 'my run' -- true", 2, "use 1 to 64 letters, digits, dots, underscores and hyphens"),
    ("run --budget 2 -- true", 2, "has no unit: give for example 2kWh"),
    ("run --budget 2kWh/week -- true", 2, "a budget is for the run, or for a day of UTC (/day)"),
    ("run --on-budget kill -- true", 2, "is none of warn, notify:COMMAND, signal:NAME"),
    ("run --sensor nvlm -- true", 2, "did you mean nvml?"),
    ("run --exporter prom -- true", 2, "there are otlp, prometheus, pushgateway, summary, textfile"),
    ("run --exporter pushgateway:gateway:9091 -- true", 2, "pushgateway:http://gateway:9091"),
    ("run --idle all -- true", 2, "--idle: 'all' is none of proportional, exclusive, none"),
    ("run --log-level WARN -- true", 2, "did you mean 'warning'?"),
    ("runs --since yesterday", 2, "give 2026-11-21, 2026-11-21T20:00, or 7d"),
    ("runs --month november", 2, "is no month; give for example 2026-11"),
    ("runs --by team", 2, "label:KEY; of a label of that name: --by label:team"),
    ("run --sensor nmvl -- true", 2, "--sensor: there is no 'nmvl'; did you mean nvml?"),
    ("run --exporter csv -- true", 2, "--exporter: there is no 'csv'; there are otlp"),
    ("top --once", 2, "there is no option '--once' here; use: carbonmon top | cat"),
    ("runs --by week", 2, "there are name, user, host, month, state"),
    ("runs prune --older-than 30", 2, "give for example 12h, 30d or 2w"),
    ("runs prune", 2, "give --older-than SPAN, --keep-size SIZE, or both"),
    ("estimate --energy 100kwh", 2, "'kwh' is no unit of it; did you mean 'kWh'?"),
]

FILES_AND_PLACES: list[Mistake] = [
    ("run --config unquoted.toml -- true", 2, 'quote texts: region = "…"'),
    ("run --config heading.toml -- true", 2, "[run] is no option: they stand at the top, without a heading"),
    ("run --config misspelt.toml -- true", 2, "did you mean 'region'?"),
    ("run --config variable.toml -- true", 2, "did you mean 'region'?"),
    ("run --config settings.yaml -- true", 2, "this is YAML; in TOML: region = …"),
    ("run --config settings.json -- true", 2, "this is JSON; in TOML a line for each"),
    ("run --config comma.toml -- true", 2, "a point in place of the comma: pue = 1.2"),
    ("run --config python.toml -- true", 2, "write true or false: quiet = true"),
    ("run --config none.toml -- true", 2, "leave the line of region out"),
    ("run --config typographic.toml -- true", 2, "the quotation marks must be straight"),
    ("run --config open.toml -- true", 2, "the quotation mark behind the value of region is missing"),
    ("run --config twice.toml -- true", 2, "pue is given twice: leave one out"),
    ("run --config text.toml -- true", 2, "'quiet' must be true or false"),
    ("run --config label.toml -- true", 2, 'label = { team = "vision" }'),
    ("run --config value.toml -- true", 2, "value.toml: 'interval': --interval: '1s' is not an interval"),
    ("run --config train.py -- true", 2, 'a line is KEY = VALUE: region = "FR"'),
    ("run --config nowhere.toml -- true", 2, "--config: nowhere.toml: cannot be read: No such file"),
    ("run --config folder -- true", 2, "--config: File 'folder' is a directory"),
    ("run --intensity-file results.csv -- true", 2, "name one start or time or datetime"),
    ("run --intensity-file kilograms.csv -- true", 2, "were kilograms meant? Multiply them by 1000"),
    ("estimate parts.toml", 2, "were kilograms meant? Then give 400"),
    (
        "run --intensity-file nowhere.csv -- true",
        2,
        "--intensity-file: nowhere.csv: cannot be read: No such file",
    ),
    (
        "run --intensity-file ../no.csv -- true",
        2,
        "--intensity-file: ../no.csv: cannot be read: No such file",
    ),
    ("run --resume deleted -- true", 2, "that folder is not there: go to the folder where the runs are"),
    ("report", 2, "name a RUN: last, its id, its name, its folder, or its summary.json"),
    ("report .", 2, "'.' is no folder of a run"),
    ("report train.py", 2, "'train.py' is no summary; give a run's folder, or its summary.json"),
    ("report train.log", 2, "'train.log' is no summary"),
    ("report model.json", 2, "model.json: no file of carbonmon; give a run's folder, or its summary.json"),
    ("report nowhere/summary.json", 2, "nor is there such a file or folder, seen from "),
    ("report no-such-run", 2, "no run 'no-such-run' in carbonmon-runs"),
    ("compare train.py train.log", 2, "'train.py' is no summary"),
    ("compare one", 2, "name two runs or more"),
    ("runs --output nowhere", 2, "--output: nowhere cannot be listed: No such file or directory"),
    ("settle last", 2, "give --intensity-file FILE, or --grid SOURCE"),
    ("register --pid 1 --socket nowhere.sock", 1, "no daemon answers"),
]

ENVIRONMENT: list[Mistake] = [
    ("CARBONMON_INTERVAL=abc run -- true", 2, "CARBONMON_INTERVAL: --interval: 'abc' is not an interval"),
    ("CARBONMON_LISTEN=here run -- true", 2, "CARBONMON_LISTEN: --listen: 'here' is not ADDRESS:PORT"),
    ("CARBONMON_REGION=Frnace run -- true", 2, "CARBONMON_REGION: region 'Frnace' is unknown"),
    ("CARBONMON_REGION=Frnace doctor", 2, "CARBONMON_REGION: region 'Frnace' is unknown"),
    ("CARBONMON_IDLE=all run -- true", 2, "CARBONMON_IDLE: --idle: 'all' is none of proportional"),
    ("CARBONMON_ATTACH=me run", 2, "CARBONMON_ATTACH: --attach: 'me' is not a whole number"),
    ("CARBONMON_QUIET=maybe run -- true", 2, "CARBONMON_QUIET: --quiet: 'maybe' is neither yes nor no"),
    ("CARBONMON_LOG_LEVEL=WARN run -- true", 2, "CARBONMON_LOG_LEVEL: --log-level: 'WARN' is none of"),
    ("CARBONMON_INTENSITY_FILE=no.csv run -- true", 2, "CARBONMON_INTENSITY_FILE: no.csv: cannot be read"),
    ("CARBONMON_CONFIG=nowhere run -- true", 2, "CARBONMON_CONFIG: nowhere: cannot be read"),
    ("CARBONMON_LABEL=team run -- true", 2, "CARBONMON_LABEL: --label: 'team' is not KEY=VALUE"),
    ("CARBONMON_REGOIN=FR run -- false", 1, "CARBONMON_REGOIN is no variable of carbonmon: did you mean"),
]

TABLES = (COMMANDS, JOBS, OPTIONS, VALUES, FILES_AND_PLACES, ENVIRONMENT)


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked | Started]:
    with commands() as each:
        yield each


def told(forked: Forked | Started, folder: Path, typed: str) -> subprocess.CompletedProcess[str]:
    """What somebody gets who types this where FILES are."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    words = shlex.split(typed)
    env = {}
    while "=" in words[0] and not words[0].startswith("-"):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    return forked.run(words, folder, env)


def check(forked: Forked | Started, folder: Path, typed: str, code: int, says: str) -> None:
    done = told(forked, folder, typed)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    if code != 1:  # the job's own, of one that was started
        runs = folder / "carbonmon-runs"
        assert not runs.exists() or list(runs.iterdir()) == [], "a job that never started leaves no folder"


def test_the_tables_hold_what_people_do():
    assert sum(map(len, TABLES)) >= 80


@for_each_row(("typed", "code", "says"), COMMANDS)
def test_a_wrong_command_names_the_right_one(
    forked: Forked | Started, tmp_path: Path, typed: str, code: int, says: str
):
    check(forked, tmp_path, typed, code, says)


@for_each_row(("typed", "code", "says"), JOBS)
def test_a_job_that_cannot_start_says_how_it_would(
    forked: Forked | Started, tmp_path: Path, typed: str, code: int, says: str
):
    check(forked, tmp_path, typed, code, says)


@for_each_row(("typed", "code", "says"), OPTIONS)
def test_a_wrong_option_names_the_right_one(
    forked: Forked | Started, tmp_path: Path, typed: str, code: int, says: str
):
    check(forked, tmp_path, typed, code, says)


@for_each_row(("typed", "code", "says"), VALUES)
def test_a_wrong_value_says_what_fits(
    forked: Forked | Started, tmp_path: Path, typed: str, code: int, says: str
):
    check(forked, tmp_path, typed, code, says)


@for_each_row(("typed", "code", "says"), FILES_AND_PLACES)
def test_a_wrong_file_says_what_it_is(
    forked: Forked | Started, tmp_path: Path, typed: str, code: int, says: str
):
    check(forked, tmp_path, typed, code, says)


@for_each_row(("typed", "code", "says"), ENVIRONMENT)
def test_a_wrong_variable_is_blamed(
    forked: Forked | Started, tmp_path: Path, typed: str, code: int, says: str
):
    check(forked, tmp_path, typed, code, says)


def test_what_is_not_installed_is_named_with_its_extra(tmp_path: Path):
    (tmp_path / "stubs").mkdir()
    for name in ("yaml", "bcrypt"):
        (tmp_path / "stubs" / f"{name}.py").write_text("raise ModuleNotFoundError('none here')\n")
    (tmp_path / "web.yml").write_text("basic_auth_users: {}\n")
    env = {"PYTHONPATH": str(tmp_path / "stubs")}
    done = command.run(["run", "--web-config", "web.yml", "--", "true"], tmp_path, env=env)
    assert done.returncode == 2
    assert "pip install 'carbonmon[auth]'" in done.stderr


def test_an_option_behind_the_command_is_the_job_s_and_that_is_said(tmp_path: Path):
    (tmp_path / "train.sh").write_text('test "$*" = "--region FR"\n')
    said = "--region stands behind the command, so that the job gets it; for carbonmon it stands before"
    done = command.run(["run", "sh", "train.sh", "--region", "FR"], tmp_path)
    assert done.returncode == 0
    assert said in done.stderr
    done = command.run(["run", "--region", "DE", "--", "sh", "train.sh", "--region", "FR"], tmp_path)
    assert done.returncode == 0
    assert said not in done.stderr, "both were meant"


def test_a_folder_of_runs_is_called_that(tmp_path: Path):
    for _ in range(2):
        assert command.run(["run", "--", "true"], tmp_path).returncode == 0
    done = command.run(["report", "carbonmon-runs"], tmp_path)
    assert done.returncode == 2
    assert "'carbonmon-runs' is a folder of 2 runs: name one, for instance carbonmon-runs/" in done.stderr
    assert "its runs are in carbonmon-runs" in command.run(["report", "."], tmp_path).stderr
    deleted = command.run(["report", "20260101-deleted"], tmp_path)
    assert "no run '20260101-deleted' in carbonmon-runs; " in deleted.stderr
    assert "carbonmon runs lists them" in deleted.stderr


def test_an_intensity_with_its_unit_is_taken_as_it_is_meant(tmp_path: Path):
    for given, grams in (("0.4kg", 400.0), ("0.4 g/kWh", 0.4), ("56g", 56.0)):
        done = command.run(["run", "--run-id", "it", "--intensity", given, "--", "true"], tmp_path)
        assert done.returncode == 0, done.stderr
        assert command.summary(tmp_path)["carbon"]["intensity"]["mean_g_per_kwh"] == pytest.approx(grams)
        (tmp_path / "carbonmon-runs" / "it").rename(tmp_path / given.replace("/", "-"))


def test_a_mistake_is_told_where_the_working_folder_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "removed"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    choice = Choice(ALL_OPTIONS["intensity-file"], "no.csv", "--intensity-file no.csv", is_argument=True)
    assert with_source([choice], "no.csv: cannot be read") == "--intensity-file: no.csv: cannot be read"
    assert with_source([choice], "--grid: there is no 'x'") == "--grid: there is no 'x'"

"""What CI and the image install: versions with hashes, audited, and what runs programs there is linted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carbonmon.core.documents import read_toml
from tests import audit, lock

TREE = Path(__file__).resolve().parents[1]
FILES = sorted((TREE / "requirements").glob("*.txt"))
MAKEFILE = (TREE / "Makefile").read_text()
PROJECT = read_toml(TREE / "pyproject.toml")

WORKFLOW = """
name: test
on: pull_request_target
permissions: write-all
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: echo "${{ github.event.pull_request.title }}"
"""


# ---- the locked versions ----


def test_the_files_are_those_that_make_lock_writes():
    assert {path.name for path in FILES} == set(lock.FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_package_has_one_version_and_the_hashes_of_its_files_and_no_place_to_come_from(path: Path):
    entries = re.split(r"^(?=\S)", path.read_text(), flags=re.MULTILINE)
    packages = [entry for entry in entries if entry and not entry.startswith("#")]
    assert packages
    for entry in packages:
        assert re.match(
            r"[a-z0-9-]+==\d\S*( ; .*)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+\Z", entry
        ), entry


@pytest.mark.parametrize("name", lock.FILES)
def test_they_hold_what_the_project_asks_for(name: str):
    assert lock.unlocked(PROJECT, name, (TREE / "requirements" / name).read_text()) == []


def test_what_the_files_lack_or_have_too_old_is_found():
    text = (TREE / "requirements" / "dev.txt").read_text()
    text = re.sub(r"^ruff==\S+ \\\n(?:    .*\n)+", "", text, flags=re.MULTILINE)
    text = re.sub(r"^pytest==\S+", "pytest==8.0", text, flags=re.MULTILINE)
    assert lock.unlocked(PROJECT, "dev.txt", text) == [
        "pyproject.toml asks for pytest>=9.0, and requirements/dev.txt has 8.0",
        "pyproject.toml asks for ruff>=0.6, and requirements/dev.txt has none",
    ]


def test_the_environment_of_ci_comes_from_them_alone():
    """`.ci/run` is `make test`, whose environment is `.dev`'s."""
    assert "exec make test\n" in (TREE / ".ci" / "run").read_text()
    for target in (".venv", ".dev"):
        (recipe,) = re.findall(rf"^\$\(VENV\)/{re.escape(target)}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
        installs = re.findall(r"\$\(BIN\)/python(?: -m pip)? install (.*)", recipe)
        assert installs
        for words in installs:
            assert "$(LOCKED)/" in words or "--no-deps --no-build-isolation --editable ." in words, words
    assert "--require-hashes" in re.findall(r"^LOCKED := (.*)$", MAKEFILE, re.MULTILINE)[0]


def test_the_image_comes_from_them_alone():
    text = re.sub(r"\\\n", "", (TREE / "deploy" / "docker" / "Dockerfile").read_text())
    for words in re.findall(r"pip (?:install|wheel) ([^&\n]*)", text):
        assert "--require-hashes" in words or "--no-deps" in words, words
        assert "--no-build-isolation" in words or "wheel-dir" not in words, words


# ---- the audit ----


def package(name: str, *faults: str) -> dict[str, Any]:
    known = [{"id": fault, "fix_versions": ["2.0"], "description": ""} for fault in faults]
    return {"name": name, "version": "1.0", "vulns": known}


def answer(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


UNKNOWN = {"name": "odd", "skip_reason": "Dependency not found on PyPI and could not be audited: odd (1.0)"}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What the audit says, and its exit code, when pip-audit answers so for each file."""

    def ask(*answers: str) -> tuple[int, str]:
        left = list(answers)

        def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess(words, 0, left.pop(0), "Traceback\nConnectionError: no route")

        monkeypatch.setattr(subprocess, "run", run)
        code = audit.main([f"file-{number}.txt" for number in range(len(answers))])
        return code, capsys.readouterr().out

    return ask


def test_an_audit_that_looked_everything_up_passes(said: Any):
    code, text = said(answer(package("good"), package("better")))
    assert (code, text) == (0, "audit: file-0.txt: 2 packages, none with a known vulnerability\n")


def test_a_known_vulnerability_is_listed_with_what_mends_it(said: Any):
    code, text = said(answer(package("good"), package("bad", "CVE-1")), answer(UNKNOWN))
    assert code == 1, "worse than what nobody knows"
    assert "file-0.txt: bad 1.0: CVE-1, mended: 2.0" in text


@pytest.mark.parametrize("packages", [(UNKNOWN,), (UNKNOWN, package("good")), ()])
def test_an_audit_that_looked_nothing_up_is_no_good_word(said: Any, packages: tuple[dict[str, Any], ...]):
    """pip-audit itself says "No known vulnerabilities found" then, and ends with 0."""
    code, text = said(answer(*packages), answer(package("good")))
    assert code == 2
    assert "this is no word about their safety" in text


@pytest.mark.parametrize("nothing", ["", "[]", "{}", "Traceback"])
def test_a_service_that_cannot_be_reached_is_said(said: Any, nothing: str):
    code, text = said(nothing)
    assert code == 2
    assert (
        "file-0.txt: not looked up, the advisory service does not answer: ConnectionError: no route" in text
    )


# ---- what runs programs where CI runs ----


def lint(program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    path = Path(sys.executable).with_name(program)
    return subprocess.run([path, *words], capture_output=True, text=True, check=False, cwd=TREE)


def words_of(program: str) -> list[str]:
    (line,) = re.findall(rf"^\t\$\(BIN\)/{program} (.*)$", MAKEFILE, re.MULTILINE)
    return line.split()


def test_workflows_and_hooks_are_linted_and_a_bad_one_is_found(tmp_path: Path):
    *options, folder = words_of("zizmor")
    assert folder == "."
    done = lint("zizmor", *options, TREE / ".github", TREE / ".pre-commit-config.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / ".github" / "workflows").mkdir(parents=True)
    (tmp_path / ".github" / "workflows" / "test.yml").write_text(WORKFLOW)
    done = lint("zizmor", *options, tmp_path)
    assert done.returncode != 0
    for fault in ("dangerous-triggers", "template-injection", "unpinned-uses"):
        assert fault in done.stdout


def test_scripts_of_ci_and_of_schedulers_are_linted_and_a_bad_one_is_found(tmp_path: Path):
    *options, script, scripts = words_of("shellcheck")
    assert (script, scripts) == (".ci/run", "deploy/slurm/*log.sh")
    found = sorted((TREE / "deploy" / "slurm").glob("*log.sh"))
    assert [path.stem for path in found] == ["epilog", "prolog", "task-prolog"], "each reads the others"
    done = lint("shellcheck", *options, TREE / script, *found)
    assert done.returncode == 0, done.stdout
    (tmp_path / "bad.sh").write_text('#!/bin/sh\nrm -rf $1/*\ncd "$2"\nrm -rf *\n')
    assert lint("shellcheck", *options, tmp_path / "bad.sh").returncode != 0

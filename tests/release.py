"""Builds and proves a release: `make release`; with RELEASE=--rehearse before the changelog is final.

Builds the source archive and the wheel twice and compares them, checks version, metadata and licences,
installs each file alone in an environment outside the tree and runs README's commands there, and writes the
bill of materials of the wheel's environment. The files are in dist/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from carbonmon.version import __version__
from tests.wheel_check import DEPENDENCIES, TREE, check_contents, clean_environment, expect, run

DIST = TREE / "dist"
AGAIN = TREE / "build" / "dist-again"
BILL = DIST / f"carbonmon-{__version__}.cdx.json"
ALLOWED_LICENCES = re.compile(r"\b(?:Apache|BSD|MIT|ISC|PSF|Python Software Foundation)\b")
"""All allow use in a program under Apache-2.0 without further conditions on that program."""

LICENCES_OF = """
import importlib.metadata as metadata, json
found = {}
for each in metadata.distributions():
    fields = each.metadata
    stated = [fields.get("License-Expression") or "", (fields.get("License") or "").partition("\\n")[0]]
    stated += [line for line in fields.get_all("Classifier", []) if line.startswith("License")]
    found[each.name.lower().replace("_", "-")] = stated
print(json.dumps(found))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument(
        "--rehearse", action="store_true", help="go on with uncommitted changes and an unfinished changelog"
    )
    is_rehearsal = parser.parse_args().rehearse
    for fault in faults_of_the_tree():
        expect(is_rehearsal, fault)
        say(f"rehearsal: {fault}")
    environ = os.environ | {"SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct")}
    files = build(DIST, environ)
    again = build(AGAIN, environ)
    hashes = {path.name: sha256(path) for path in files}
    expect(hashes == {path.name: sha256(path) for path in again}, "two builds of one commit differ")
    say("two builds of the commit are the same, byte for byte")
    run([sys.executable, "-m", "twine", "check", "--strict", *map(str, files)], cwd=TREE)
    say("the metadata is sound")
    for path in files:
        if path.suffix == ".whl":
            check_contents(path)
        with clean_environment(path) as python:
            check_licences(python)
            check_readme(python)
            if path.suffix == ".whl":
                hashes[BILL.name] = write_bill(python)
        say(f"{path.name}: installed alone, README's commands work")
    for name, digest in hashes.items():
        say(f"sha256 {digest}  dist/{name}")


def faults_of_the_tree() -> list[str]:
    """What stands in the way of a release of this tree."""
    faults = []
    if git("status", "--porcelain"):
        faults.append("there are uncommitted changes: commit them, or clone the commit anew")
    changelog = (TREE / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[(.+?)\](?: - (\S+))?$(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if not sections or sections[0][0] != "Unreleased" or sections[0][2].strip():
        faults.append(
            "CHANGELOG.md: 'Unreleased' must come first and be empty; move its entries into a section"
        )
    released = [(name, day) for name, day, _ in sections if name != "Unreleased"]
    if not released or released[0][0] != __version__ or not re.fullmatch(r"\d{4}-\d\d-\d\d", released[0][1]):
        faults.append(f"CHANGELOG.md: the newest section must be [{__version__}] with its date")
    if not (TREE / "tests" / "fixtures" / f"runs-{__version__}").is_dir():
        faults.append(f"no runs of {__version__} are recorded: python -m tests.fixtures.record")
    return faults


def build(target: Path, environ: dict[str, str]) -> list[Path]:
    """The source archive, and the wheel built from it."""
    shutil.rmtree(target, ignore_errors=True)
    run([sys.executable, "-m", "build", "--outdir", str(target), str(TREE)], cwd=TREE, environ=environ)
    files = sorted(target.iterdir())
    names = [f"carbonmon-{__version__}-py3-none-any.whl", f"carbonmon-{__version__}.tar.gz"]
    expect([path.name for path in files] == names, f"{[path.name for path in files]} were built, not {names}")
    return files


def check_licences(python: Path) -> None:
    found: dict[str, list[str]] = json.loads(run([str(python), "-c", LICENCES_OF], cwd=python.parent))
    expect(found.keys() >= DEPENDENCIES, f"only {sorted(found)} are installed")
    for name, licences in found.items():
        stated = next((text for text in licences if ALLOWED_LICENCES.search(text)), None)
        expect(stated is not None, f"{name}: {licences} is no licence that is allowed here")


def write_bill(python: Path) -> str:
    """The software bill of materials of an environment: CycloneDX, without times; its SHA-256."""
    words = ["environment", "--output-reproducible", "--pyproject", str(TREE / "pyproject.toml")]
    program = Path(sys.executable).with_name("cyclonedx-py")
    run([str(program), *words, "--output-file", str(BILL), str(python)], cwd=python.parent)
    bill = json.loads(BILL.read_text(encoding="utf-8"))
    names = {part["name"].lower().replace("_", "-") for part in bill["components"]}
    expect(names >= DEPENDENCIES - {"carbonmon"}, f"the bill of materials names only {sorted(names)}")
    say(f"{BILL.name}: {len(names)} packages")
    return sha256(BILL)


def check_readme(python: Path) -> None:
    """The test of README's commands, with the installed command in place of the tree's."""
    environ = os.environ | {"CARBONMON_TEST_COMMAND": str(python.with_name("carbonmon"))}
    tests = ["tests/e2e/test_readme.py", "-k", "not make", "-p", "no:cacheprovider", "-q"]
    run([sys.executable, "-m", "pytest", *tests], cwd=TREE, environ=environ)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=TREE, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def say(text: str) -> None:
    print(f"release: {text}", flush=True)  # noqa: T201 (this is a program)


if __name__ == "__main__":
    main()

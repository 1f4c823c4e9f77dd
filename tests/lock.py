"""Writes requirements/*.txt: every version that CI and the image install, with the hashes of its files.

    make lock                   what pyproject.toml has changed; all else stays as it is
    make lock LOCK=--upgrade    the newest of everything
    python -m tests.lock --check    whether they hold what pyproject.toml asks for

The files hold for every Python that is supported, and for Linux on every processor. uv resolves them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[1]
FOLDER = "requirements"
OLDEST_PYTHON = "3.10"
EXTRAS = ("--extra", "live", "--extra", "auth", "--extra", "otlp")
FILES: dict[str, tuple[str, ...]] = {
    "dev.txt": (*EXTRAS, "--group", "demo", "--group", "dev", "--group", "release", "pyproject.toml"),
    "image.txt": (*EXTRAS, "pyproject.toml"),
    "build.txt": ("--group", "build"),
    "pip.txt": ("--group", "pip"),
    "tools.txt": ("--group", "supply-chain"),
}
"""What of pyproject.toml is in which file: for CI, for the image, for this program and the audit."""


def unlocked(project: Mapping[str, Any], name: str, text: str) -> list[str]:
    """The requirements of pyproject.toml that a file does not satisfy on this Python, each in words."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    locked = {}
    for line in text.splitlines():
        if line[:1] in ("#", " ", ""):
            continue
        entry = Requirement(line.removesuffix("\\"))
        if entry.marker is None or entry.marker.evaluate():
            locked[canonicalize_name(entry.name)] = next(iter(entry.specifier)).version
    faults = []
    for asked in map(Requirement, _asked(project, FILES[name])):
        if asked.marker is None or asked.marker.evaluate():
            found = locked.get(canonicalize_name(asked.name))
            if found is None or not asked.specifier.contains(found, prereleases=True):
                faults.append(f"pyproject.toml asks for {asked}, and {FOLDER}/{name} has {found or 'none'}")
    return faults


def _asked(project: Mapping[str, Any], parts: Sequence[str]) -> Iterator[str]:
    words = [*parts]
    while words:
        word = words.pop(0)
        if word == "pyproject.toml":
            yield from project["project"]["dependencies"]
        elif word == "--extra":
            yield from project["project"]["optional-dependencies"][words.pop(0)]
        else:
            yield from _group(project["dependency-groups"], words.pop(0))


def _group(groups: Mapping[str, Any], name: str) -> Iterator[str]:
    for entry in groups[name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from _group(groups, entry["include-group"])


def check() -> int:
    """Whether the files hold what pyproject.toml asks for; says what is missing."""
    from carbonmon.core.documents import read_toml

    project = read_toml(TREE / "pyproject.toml")
    faults = [
        fault
        for name in FILES
        for fault in unlocked(project, name, (TREE / FOLDER / name).read_text(encoding="utf-8"))
    ]
    for fault in faults:
        sys.stderr.write(f"lock: {fault}: make lock\n")
    return 1 if faults else 0


def main(arguments: Sequence[str]) -> int:
    if arguments == ["--check"]:
        return check()
    for name, parts in FILES.items():
        command = [
            *(str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--universal"),
            *("--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-annotate", "--no-config"),
            *("--custom-compile-command", "make lock", "--output-file", f"{FOLDER}/{name}"),
            *arguments,
            *parts,
        ]
        done = subprocess.run(command, cwd=TREE, check=False)
        if done.returncode:
            sys.stderr.write(f"lock: {FOLDER}/{name} stays as it was: uv ended with {done.returncode}\n")
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

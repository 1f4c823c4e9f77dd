"""Looks the locked versions up among known vulnerabilities, with pip-audit: `make audit`.

Exit code 0: every package was looked up and none has a known vulnerability. 1: some have, they are listed.
2: they could not be looked up, or not all of them; this is no word about their safety.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

TREE = Path(__file__).resolve().parents[1]
FILES = ("requirements/image.txt", "requirements/dev.txt")
MOST_NAMED = 5


class Found(NamedTuple):
    """Of one file: how many packages were looked up, those that were not, and what is known of the others."""

    looked_up: int
    unknown: tuple[str, ...]
    vulnerable: tuple[str, ...]


def found_in(answer: str) -> Found:
    """What pip-audit's JSON says. Raises ValueError where it is none."""
    looked_up, unknown, vulnerable = 0, [], []
    document: Any = json.loads(answer)
    for package in document["dependencies"]:
        name = package["name"]
        if "skip_reason" in package:  # pip-audit passes, also where it could look nothing up
            unknown.append(name)
            continue
        looked_up += 1
        for fault in package["vulns"]:
            mended = ", ".join(fault["fix_versions"]) or "in no version yet"
            vulnerable.append(f"{name} {package['version']}: {fault['id']}, mended: {mended}")
    return Found(looked_up, tuple(unknown), tuple(vulnerable))


def main(files: Sequence[str]) -> int:
    code = 0
    for file in files or FILES:
        words = ("--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json")
        program = str(Path(sys.executable).with_name("pip-audit"))
        done = subprocess.run(
            [program, *words, "--requirement", file], cwd=TREE, capture_output=True, text=True, check=False
        )
        try:
            found = found_in(done.stdout)
        except (ValueError, KeyError, TypeError):
            reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            say(f"{file}: not looked up, the advisory service does not answer: {reason:.300}")
            code = code or 2
            continue
        for line in found.vulnerable:
            say(f"{file}: {line}")
        if found.unknown:
            named = ", ".join(found.unknown[:MOST_NAMED])
            more = len(found.unknown) - MOST_NAMED
            named += f" and {more} more" if more > 0 else ""
            of = found.looked_up + len(found.unknown)
            say(f"{file}: {len(found.unknown)} of {of} packages are unknown to the advisory service: {named}")
        if found.vulnerable:
            code = 1
        elif found.unknown or not found.looked_up:
            code = code or 2
        else:
            say(f"{file}: {found.looked_up} packages, none with a known vulnerability")
    if code == 2:
        say("so this is no word about their safety")
    return code


def say(text: str) -> None:
    print(f"audit: {text}", flush=True)  # noqa: T201 (this is a program)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

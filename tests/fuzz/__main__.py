"""`python -m tests.fuzz --minutes N`: the fuzz tests for longer, guided by coverage where atheris is there.

Without atheris each round runs every test with ten times its examples and a new seed. Exit code 1 at the
first failure; Hypothesis has shrunk it and prints it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import gettempdir

from tests.support import effort

FACTOR = "10"
MODULES = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))


def tests() -> dict[str, Callable[[bytes], object]]:
    """Every Hypothesis test as a function of bytes, by its name; they take no fixtures."""
    found = {}
    for module in MODULES:
        for name, test in vars(importlib.import_module(f"tests.fuzz.{module}")).items():
            if name.startswith("test_") and hasattr(test, "hypothesis"):
                found[f"{module}.{name}"] = test.hypothesis.fuzz_one_input
    return found


def with_atheris(name: str) -> None:
    """One test under libFuzzer, until its time is over; atheris ends the process."""
    import atheris

    with atheris.instrument_imports(include=["carbonmon", "carbonmon_exporters"]):
        target = tests()[name]

    def one_input(data: bytes) -> None:
        target(data)  # libFuzzer wants None

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


def commands(has_atheris: bool, number: int, left_s: float) -> list[list[str]]:
    """What one round runs, one process for each test or file."""
    if not has_atheris:
        pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout=0"]
        folder = Path(__file__).parent
        return [[*pytest, f"--hypothesis-seed={number}", str(folder / f"{module}.py")] for module in MODULES]
    names = list(tests())
    each_s = max(5, round(left_s / len(names)))
    fuzz = [sys.executable, "-m", "tests.fuzz", "--one"]
    # Short inputs draw nothing whole; libFuzzer would begin with them. What fails is kept out of the tree.
    libfuzzer = ["-len_control=0", "-max_len=4096", "-verbosity=0", f"-artifact_prefix={gettempdir()}/"]
    return [[*fuzz, name, f"-max_total_time={each_s}", *libfuzzer] for name in names]


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--one"]:
        sys.argv = [sys.argv[0], *arguments[2:]]
        with_atheris(arguments[1])
        return 0
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="about how long; default: %(default)s")
    end_s = time.monotonic() + 60.0 * parser.parse_args(arguments).minutes
    has_atheris = importlib.util.find_spec("atheris") is not None
    environ = {**os.environ, effort.VARIABLE: FACTOR}
    number = time.time_ns() % 1_000_000
    while time.monotonic() < end_s:
        for command in commands(has_atheris, number, end_s - time.monotonic()):
            sys.stderr.write(f"{' '.join(command[2:])}\n")
            if subprocess.run(command, env=environ, check=False).returncode:
                return 1
            if time.monotonic() >= end_s:
                break
        number += 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

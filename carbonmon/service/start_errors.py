"""Why a job could not be started, and what was probably meant by its command."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

SHELL_WORDS = frozenset(
    (
        ".",
        ":",
        "alias",
        "case",
        "cd",
        "eval",
        "export",
        "for",
        "if",
        "module",
        "set",
        "source",
        "ulimit",
        "while",
    )
)
"""Words that only a shell knows (POSIX.1-2017, 2.9 and 2.14), and `module` of Environment Modules."""

PROGRAMS = (
    *("python", "python3", "torchrun", "accelerate", "deepspeed", "mpirun", "mpiexec", "srun", "jupyter"),
    *("bash", "sh", "conda", "uv", "poetry", "make", "docker", "ray", "horovodrun", "julia", "Rscript"),
)
"""What starts a training, for words that are misspelt."""

_SETTING = re.compile(r"[A-Za-z_]\w*=")
_OF_A_SHELL = re.compile(r"\s(?:\||\|\||&&?|;|>>?|<|2>&1)(?:\s|$)")
_USE = "carbonmon run --"


def start_error(command: Sequence[str], error: OSError) -> str:
    """The error's text with the command as it was probably meant."""
    word = command[0]
    hint = _meant(command, error)
    return f"{word}: {error.strerror}{'; ' if hint else ''}{hint}"


def _meant(command: Sequence[str], error: OSError) -> str:
    word, line = command[0], " ".join(command)
    first = word.partition(" ")[0]
    operator = _OF_A_SHELL.search(word)
    if os.path.isfile(word):  # noqa: PTH113 (False for what may not be looked at, where Path's raises)
        return _file(Path(word), line, error)
    if operator or first in SHELL_WORDS:
        return f"{operator[0].strip() if operator else first} needs a shell: {_USE} sh -c {shlex.quote(line)}"
    if os.path.isdir(word):  # noqa: PTH112 (the same)
        return f"it is a folder; name the program in it: {_USE} python {Path(word) / 'train.py'}"
    if word.startswith("~"):
        return f"a shell opens ~ only outside of quotes: {_USE} {line}"
    if _SETTING.match(word):
        setting, _, rest = line.partition(" ")
        return f"variables stand before carbonmon: {setting} {_USE} {rest or 'COMMAND'}"
    if first != word and len(command) == 1 and shutil.which(first):
        return f"drop the quotes: {_USE} {word}"
    return _like(word, command[1:])


def _file(path: Path, line: str, error: OSError) -> str:
    """What to do with a file that is there, but that the system does not start."""
    if path.suffix == ".py":
        return f"use: {_USE} python {line}"
    if path.suffix == ".ipynb":
        return f"use: {_USE} jupyter execute {line}, or carbonmon.track() in the notebook"
    if isinstance(error, FileNotFoundError) and "/" not in str(path):
        return f"for the file in this folder: ./{path}"
    if isinstance(error, PermissionError):
        return f"name its interpreter, or: chmod +x {line.partition(' ')[0]}"
    return "name its interpreter" if not isinstance(error, FileNotFoundError) else ""


def _like(word: str, rest: Sequence[str]) -> str:
    """A program that is there and has nearly that name."""
    import difflib

    there = [name for name in PROGRAMS if shutil.which(name)]
    near = difflib.get_close_matches(word, there, n=1, cutoff=0.75)
    if near:
        return f"did you mean {near[0]!r}? {_USE} {' '.join((near[0], *rest))}"
    if "/" in word:
        return ""
    return "no program of that name is in PATH: activate its environment, or give its path"

"""What a command line really starts: looks behind launchers, interpreters, shells and tools like `env`; pure.

The table in `wrappers` drives it: for each program that starts another one, which of its options have their
value in the next word, and what stands before the command.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from carbonmon.core.patterns import pattern
from carbonmon.core.records import NamedTuple
from carbonmon.service.wrappers import SHELL, WRAPPERS, Wrapper

MAX_WRAPPERS = 12
"""So many wrappers are looked behind."""

SUFFIXES = (".py", ".sh", ".ipynb", ".sbatch", ".slurm", ".jl", ".R", ".js", ".pl", ".rb")


class Target(NamedTuple):
    """What a command starts: the program, script or module, and the wrappers before it, outermost first.

    `behind` are the words after each wrapper's own, which it starts.
    """

    program: str
    wrappers: tuple[str, ...]
    behind: tuple[tuple[str, ...], ...]


_VERSIONED = pattern(r"(python|pypy|ipython)[\d.]+t?|(mpirun|mpiexec)[-.]\w+")
_SETTING = pattern(r"[A-Za-z_]\w*\+?=")
_BREAKS = frozenset(("&&", "||", ";", "|", "&", "|&", ";;", "\n"))
_LEADS = frozenset(("do", "then", "else", "{", "(", "!", "eval", "if", "while", "until", "elif"))
"""Words of a shell before a command of the same line."""

_SETUP = frozenset(
    (
        *(
            "cd",
            "pushd",
            "popd",
            "export",
            "unset",
            "source",
            ".",
            "set",
            "shopt",
            "ulimit",
            "umask",
            "trap",
            "wait",
        ),
        *(
            "exit",
            "return",
            "true",
            "false",
            ":",
            "test",
            "[",
            "[[",
            "read",
            "alias",
            "module",
            "ml",
            "declare",
        ),
        *(
            "local",
            "mkdir",
            "rm",
            "ln",
            "echo",
            "printf",
            "date",
            "hostname",
            "nvidia-smi",
            "sleep",
            "for",
            "case",
        ),
        *("done", "fi", "esac", "}", ")", "in", "function", "times", "spack", "activate", "type", "which"),
    )
)
"""Commands of a shell script that prepare the main one, or follow it."""


def look_behind(command: Sequence[str]) -> Target:
    """What a command line starts in the end; the program is "" where there is none."""
    wrappers: list[str] = []
    behind: list[tuple[str, ...]] = []
    words = [word for word in command if word]
    program = ""
    while words and len(wrappers) < MAX_WRAPPERS:
        program = _program(words[0])
        wrapper = WRAPPERS.get(program)
        left = None if wrapper is None else _behind(wrapper, words[1:])
        if left is None:
            program = words[0]
            break
        wrappers.append(program)
        behind.append(tuple(left))
        words = left
    return Target(program, tuple(wrappers), tuple(behind))


def short_name(program: str) -> str:
    """The name of a program, script or module, without its folder and the ending of its language."""
    stem = PurePath(program).name or program  # of a folder alone there is no name
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix) or stem
    return stem


def _program(word: str) -> str:
    """The name by which the table knows a program: without folder, and without the version in
    `python3.11`."""
    name = PurePath(word).name
    match = _VERSIONED.fullmatch(name)
    return (match[1] or match[2]) if match and name not in WRAPPERS else name


def _behind(wrapper: Wrapper, words: Sequence[str]) -> list[str] | None:
    """The command behind a wrapper, given the words after it; None where it starts none."""
    left = list(words)
    if wrapper.sub:
        left = _after_options(wrapper, left)
        for sub in wrapper.sub.split():
            parts = sub.split("/")
            if left[: len(parts)] == parts:
                left = left[len(parts) :]
                break
        else:
            return None
    found = _own_command(wrapper, left)
    if found is not None:
        return found or None
    left = _after_options(wrapper, left)
    left = left[wrapper.skip :]
    if wrapper.skip and left[:1] == ["--"]:
        left = left[1:]
    return left or None


def _after_options(wrapper: Wrapper, words: list[str]) -> list[str]:
    """The words behind a wrapper's options and settings."""
    place = 0
    while place < len(words):
        word = words[place]
        if word == "--":
            return words[place + 1 :]
        if wrapper.sets and _SETTING.match(word):
            place += 1
        elif word == "-" and not wrapper.sets:
            return []  # the program itself reads its standard input
        elif word.startswith("-"):
            place += 1 + _values_of(wrapper, word)
        else:
            break
    return words[place:]


def _own_command(wrapper: Wrapper, words: Sequence[str]) -> list[str] | None:
    """What an option gives to run: a module, a text to split, code of a shell; [] for code without a name."""
    place = 0
    while place < len(words):
        word = words[place]
        if wrapper.sets and _SETTING.match(word):
            place += 1
            continue
        if word in ("--", "-") or not word.startswith("-"):
            return None
        for option, attached in _options_of(wrapper, word):
            value = [attached] if attached else list(words[place + 1 : place + 2])
            rest = list(words[place + (1 if attached else 2) :])
            if option in wrapper.module.split():
                return [*value, *rest]
            if option in wrapper.own.split():
                return [*_split("".join(value)), *rest]
            if option in wrapper.code.split():
                return _main_command("".join(value)) if wrapper is SHELL else []
        place += 1 + _values_of(wrapper, word)
    return None


def _options_of(wrapper: Wrapper, word: str) -> Iterator[tuple[str, str]]:
    """(option, attached value) of a word: `--name=value`, `-np`, and each letter of `-xvf` or `-n4`."""
    if word.startswith("--"):
        name, _, value = word[2:].partition("=")
        yield name.replace("_", "-"), value
        return
    whole = word[1:].replace("_", "-")
    if len(whole) > 1 and wrapper.flags is None and wrapper.count(whole):
        yield whole, ""
        return
    special = {*wrapper.code.split(), *wrapper.module.split(), *wrapper.own.split()}
    for place, letter in enumerate(word[1:], start=2):
        yield letter, word[place:]
        if letter in special or wrapper.count(letter):
            return


def _values_of(wrapper: Wrapper, word: str) -> int:
    """How many words behind an option are its values."""
    for option, attached in _options_of(wrapper, word):
        count = wrapper.count(option)
        if count or option in (*wrapper.code.split(), *wrapper.module.split(), *wrapper.own.split()):
            return max(0, max(count, 1) - (1 if attached or "=" in word else 0))
    return 0


def _split(text: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text)
    except ValueError:  # a quotation without an end
        return text.split()


def _main_command(code: str) -> list[str]:
    """The first command of a shell's code that does more than prepare another one; [] without one."""
    import shlex

    lexer = shlex.shlex(code, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, "#"
    try:
        tokens = list(lexer)
    except ValueError:
        tokens = code.split()
    line: list[str] = []
    for token in [*tokens, ";"]:
        if not (token in _BREAKS or (token and set(token) <= set(";&|\n"))):
            line.append(token)
            continue
        while line and (line[0] in _LEADS or _SETTING.match(line[0])):
            del line[0]
        names_a_phase = line[:2] == ["carbonmon", "phase"]
        if line and line[0] not in _SETUP and not names_a_phase and not line[0].startswith("$("):
            return line
        line = []
    return []

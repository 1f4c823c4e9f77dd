"""What the shells offer, and the manual page: made of the commands, in real shells and a real man."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from carbonmon.cli import _COMMANDS, grouped, manpage
from tests.support import command
from tests.support.rows import for_each_row

SHARE = Path(__file__).resolve().parents[2] / "share"
BIN = Path(command.CARBONMON).parent


def offered(typed: str, folder: Path, **environ: str) -> list[str]:
    """What bash would be offered for the last word of what is typed."""
    env = {"_CARBONMON_COMPLETE": "bash_complete", "COMP_WORDS": typed, **environ}
    env["COMP_CWORD"] = str(len(typed.split(" ")) - 1)
    done = command.run([], folder, env=env)
    assert done.stderr == ""
    return done.stdout.split()


@for_each_row(
    ("typed", "value"),
    [
        ("carbonmon re", "plain,report"),
        ("carbonmon run --reg", "plain,--region"),
        ("carbonmon run --region D", "plain,DE"),
        ("carbonmon run --gpu-model A100-S", "plain,A100-SXM4-80GB"),
        ("carbonmon run --sensor nvml,r", "plain,nvml,rapl"),
        ("carbonmon run --idle ex", "plain,exclusive"),
        ("carbonmon run --intensity-file g", "file,g"),
        ("carbonmon run ", "plain,--"),
        ("carbonmon run -- slee", "plain,sleep"),
        ("carbonmon run -- python tr", "file,tr"),
        ("carbonmon report ", "plain,last"),
        ("carbonmon report 2026", "plain,20261031-vit"),
        ("carbonmon compare last 2", "plain,20261031-vit"),
        ("carbonmon run --resume 2", "plain,20261031-vit"),
        ("carbonmon report ./r", "file,./r"),
        ("carbonmon runs pr", "plain,prune"),
        ("carbonmon regions aws:us-e", "plain,aws:us-east-1"),
    ],
)
def test_a_word_is_completed(tmp_path: Path, typed: str, value: str):
    (tmp_path / "carbonmon-runs" / "20261031-vit").mkdir(parents=True, exist_ok=True)
    assert value in offered(typed, tmp_path)


def test_a_completion_does_nothing_else(tmp_path: Path):
    """Neither a job that is switched off, nor a file of options with a mistake, nor a wrong command."""
    assert offered("carbonmon run -- touch began", tmp_path, CARBONMON_OFF="1") == ["file,began"]
    (tmp_path / "carbonmon.toml").write_text("region = FR\n")
    assert "plain,--region" in offered("carbonmon run --reg", tmp_path)
    assert offered("carbonmon nothing --x", tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["carbonmon.toml"]


@for_each_row(
    ("words", "current", "offer"),
    [
        ("run --regi", 2, "--region"),
        ("regions aws : us-east-1", 4, "us-east-1"),  # as bash divides them
        ("run --region aws : us-east-1 -- true", 5, "us-east-1"),
        ("run --region = aws : us-east-1", 6, "us-east-1"),
        ("run --region dk : dk1", 5, ""),
    ],
)
def test_the_script_for_bash_completes(words: str, current: int, offer: str):
    script = SHARE / "bash-completion" / "completions" / "carbonmon"
    asks = f"COMP_WORDS=(carbonmon {words}); COMP_CWORD={current}; _carbonmon_whole_words carbonmon"
    done = in_shell("bash", "--norc", "-c", f'. {script}; complete -p carbonmon; {asks}; echo "$COMPREPLY"')
    assert re.fullmatch(rf"complete .*-F _carbonmon_whole_words carbonmon\n{offer}\n", done)


def test_bash_completes_a_word_with_a_colon_where_it_does_not_divide_there():
    script = SHARE / "bash-completion" / "completions" / "carbonmon"
    asks = "COMP_WORDS=(carbonmon regions aws:us-east-1); COMP_CWORD=2; _carbonmon_whole_words carbonmon"
    done = in_shell("bash", "--norc", "-c", f'COMP_WORDBREAKS=" "; . {script}; {asks}; echo "$COMPREPLY"')
    assert done == "aws:us-east-1\n"


def test_the_script_for_fish_completes():
    script = SHARE / "fish" / "vendor_completions.d" / "carbonmon.fish"
    done = in_shell("fish", "--no-config", "-c", f"source {script}; complete -C 'carbonmon run --regi'")
    assert done.startswith("--region")


def test_the_script_for_zsh_completes_at_the_first_key(tmp_path: Path):
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    setup = (
        f"PS1='> '; fpath=({SHARE}/zsh/site-functions $fpath); autoload -U compinit; compinit -D; echo go\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvpe("zsh", ["zsh", "-f", "-i"], environ())
    try:
        os.write(terminal, setup.encode())
        wait_for_text(terminal, "\ngo")
        os.write(terminal, b"carbonmon run --regi\t")
        wait_for_text(terminal, "--region ")
    finally:
        os.close(terminal)  # zsh ends with its terminal
        os.waitpid(pid, 0)


def wait_for_text(terminal: int, text: str) -> None:
    seen = ""
    until_s = time.monotonic() + command.DEADLINE_S
    while text not in seen.replace("\r", ""):
        left_s = until_s - time.monotonic()
        assert left_s > 0.0 and select.select([terminal], [], [], left_s)[0], seen
        seen += os.read(terminal, 4096).decode(errors="replace")


def in_shell(*words: str) -> str:
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(words, env=environ(), capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "", shlex.join(words)
    return done.stdout


def environ() -> dict[str, str]:
    return command.environ(PATH=f"{BIN}:{os.environ['PATH']}", TERM="dumb")


def test_every_command_is_in_one_group_of_the_help():
    names = [name for _, rows in grouped() for name, _ in rows]
    assert sorted(names) == sorted(_COMMANDS)


def test_the_manual_page_is_the_one_that_the_commands_make():
    kept = (SHARE / "man" / "man1" / "carbonmon.1").read_text()
    assert kept == manpage.page(), "stale: python -m carbonmon.cli.manpage > share/man/man1/carbonmon.1"
    assert kept.isascii()


def test_man_reads_the_manual_page_without_a_warning():
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    page = SHARE / "man" / "man1" / "carbonmon.1"
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-rLL=100n", str(page)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    text = re.sub(r".\x08|\x1b\[[\d;]*m", "", done.stdout)
    for words in (
        "carbonmon run [OPTIONS] -- COMMAND [ARG…]",
        "--region ZONE",
        "carbonmon runs prune",
        "126",
    ):
        assert words in text

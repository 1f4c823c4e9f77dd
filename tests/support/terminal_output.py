"""A terminal of a chosen width: what a command writes where a person looks."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

from carbonmon.core.text_layout import columns_of
from tests.support import command
from tests.support.forked import Forked, Started

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def in_terminal(
    arguments: Sequence[str],
    folder: Path,
    columns: int,
    *,
    env: Mapping[str, str] | None = None,
    stop_at: str = "",
    commands: Forked | Started | None = None,
) -> str:
    """All that `carbonmon` writes to a terminal with so many columns; it is ended when it says `stop_at`.

    `commands` starts it.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    given = {"CARBONMON_LISTEN": "127.0.0.1:0", "TERM": "xterm-256color", **(env or {})}
    mine = command.environ(**given)
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE"):
        if name not in given:
            mine.pop(name, None)
    child = (commands or Started()).start(arguments, folder, mine, [slave] * 3)
    os.close(slave)
    written = b""
    try:
        while True:
            try:
                part = os.read(master, 1 << 16)
            except OSError:  # EIO: nobody has the other end any more
                break
            if not part:
                break
            written += part
            if stop_at and stop_at.encode() in written:
                child.send_signal(signal.SIGTERM)
                stop_at = ""
        child.wait(command.DEADLINE_S)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        os.close(master)
    return written.decode().replace("\r\n", "\n")


def too_wide(text: str, columns: int) -> list[str]:
    """The lines that the terminal would break, but those of one word: an address or a path is left whole."""
    lines = COLOUR.sub("", text).split("\n")
    return [line for line in lines if columns_of(line) > columns and " " in line.strip()]

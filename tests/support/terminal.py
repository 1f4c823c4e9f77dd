"""A real terminal: tmux, in which a shell runs what a person types."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.support import command

TMUX = shutil.which("tmux")


class Terminal:
    """A pane with bash in it, on a tmux server of its own; `folder` is where the shell is."""

    def __init__(
        self, folder: Path, columns: int = 80, rows: int = 24, env: Mapping[str, str] | None = None
    ) -> None:
        assert TMUX is not None, "tmux is not installed: python3 tests/system_deps.py"
        self._place = tempfile.mkdtemp(prefix="carbonmon-tmux-")  # paths of sockets are short
        self._socket = f"{self._place}/s"
        path = f"{Path(command.CARBONMON).parent}:{os.environ['PATH']}"
        self._environ = command.environ(PATH=path, LC_ALL="C.UTF-8", PS1="$ ", **(env or {}))
        self._environ.pop("NO_COLOR", None)
        self._environ |= env or {}
        config = Path(self._place) / "conf"
        config.write_text("set -g default-terminal screen-256color\nset -g history-limit 5000\n")
        self._tmux(
            *("-f", str(config), "new-session", "-d", "-x", str(columns), "-y", str(rows)),
            *("-c", str(folder), "bash", "--norc", "--noprofile"),
        )

    def __enter__(self) -> Terminal:
        try:
            self.wait_for("$")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tmux("kill-server")
        shutil.rmtree(self._place, ignore_errors=True)

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            [str(TMUX), "-u", "-S", self._socket, *words],
            env=self._environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=command.DEADLINE_S,
        )
        return done.stdout

    def enter(self, line: str) -> None:
        """Type a line, and Enter."""
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        """Press keys by tmux' names: q, Down, C-z."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def text(self) -> str:
        """What is on the screen."""
        return self._tmux("capture-pane", "-p")

    def styled(self) -> str:
        """The same with its colours, as escape sequences."""
        return self._tmux("capture-pane", "-p", "-e")

    def all_text(self) -> str:
        """With what has scrolled away."""
        return self._tmux("capture-pane", "-p", "-S", "-")

    def asked(self, format_: str) -> str:
        """What tmux knows: `#{pane_title}`, `#{alternate_on}`."""
        return self._tmux("display-message", "-p", format_).strip()

    def wait_for(self, *parts: str) -> str:
        """The screen, once all of these are on it."""
        try:
            return command.wait_for(
                lambda: text if all(part in (text := self.text()) for part in parts) else None, f"{parts}"
            )
        except AssertionError:
            raise AssertionError(f"{parts} did not come; there is:\n{self.text()}") from None

    def wait_until_gone(self, part: str) -> str:
        """The screen, once this is not on it."""
        return command.wait_for(
            lambda: text if part not in (text := self.text()) else None, f"the end of {part}"
        )

    def is_plain(self) -> bool:
        """Whether the terminal is as a shell wants it: no other screen, a cursor, lines that wrap."""
        flags = self.asked("#{alternate_on} #{cursor_flag} #{wrap_flag}")
        return flags == "0 1 1"

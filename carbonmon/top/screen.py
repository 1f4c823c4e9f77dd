"""The terminal: keys one by one, a screen of its own, and everything as it was when we leave or stop.

Escape sequences are those that every terminal of today has in common (ECMA-48, and xterm's alternate screen:
https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from carbonmon.top.cells import ASCII, UNICODE, Line, Signs, Span

# Alternate screen, no cursor, no line that goes on in the next one; and all of it back.
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = b"\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"

STYLES = {"title": "1", "measured": "32", "estimated": "33", "alarm": "1;31", "chosen": "7"}
WITHOUT_COLOUR = {"title": "1", "alarm": "1", "chosen": "7"}
"""What is left with NO_COLOR (https://no-color.org), which is about colour alone."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
KEYS = {
    **{b"\x1b[A": "up", b"\x1bOA": "up", b"k": "up", b"\x1b[B": "down", b"\x1bOB": "down", b"j": "down"},
    **{b"\r": "enter", b"\n": "enter"},
}
# Of ECMA-48, 5.4: what keys without a character send, and what may become it.
_SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~])")
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?")
_PIECE_BYTES = 1024


class Ended(BaseException):
    """A signal ends the view; not an `Exception`, so that nothing on the way takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def can_redraw(environ: Mapping[str, str]) -> bool:
    """Whether stdout is a terminal on which a frame can be drawn again and again."""
    return sys.stdout.isatty() and environ.get("TERM", "") not in ("", "dumb", "unknown")


def signs_for(encoding: str | None) -> Signs:
    """The characters that an encoding can hold."""
    try:
        "".join(UNICODE).encode(encoding or "ascii")
    except (UnicodeError, LookupError):
        return ASCII
    return UNICODE


class Screen:
    """The terminal of stdout, for the main thread. As long as we are in the background it is not touched."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._out = sys.stdout.fileno()
        self._encoding = sys.stdout.encoding or "ascii"
        self._styles = WITHOUT_COLOUR if environ.get("NO_COLOR") else STYLES
        self.signs = signs_for(self._encoding)
        self._keys = self._keyboard()
        self._is_active = False
        self._modes: list[Any] = []
        self._drawn: list[bytes] = []
        self._is_stale = False
        self._typed = b""
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Screen:
        handlers = dict.fromkeys(ENDING, _end)
        handlers |= {signal.SIGTSTP: self._stop, signal.SIGCONT: self._go_on, signal.SIGWINCH: self._resize}
        for number, handler in handlers.items():
            self._before[number] = signal.signal(number, handler)
        try:
            self._take()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*ENDING, signal.SIGTSTP})
        try:
            self._give_back()
            for number, handler in self._before.items():
                signal.signal(number, handler)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def wake(self) -> None:
        """Have `wait` return; for any thread."""
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def wait(self) -> list[str]:
        """Wait for keys, or to be woken; the keys by name. Raises `Ended` when the terminal is gone."""
        sources = [self._wake_read, *([self._keys] if self._is_active else [])]
        ready, _, _ = select.select(sources, [], [])
        if self._wake_read in ready:
            with suppress(BlockingIOError):
                while os.read(self._wake_read, _PIECE_BYTES):
                    pass
        if self._keys not in ready:
            return []
        try:
            typed = os.read(self._keys, _PIECE_BYTES)
        except OSError:
            typed = b""
        if not typed:
            raise Ended(signal.SIGHUP)
        names, self._typed = keys_in(self._typed + typed)
        return names

    def size(self) -> tuple[int, int]:
        """Columns and rows; 80 × 24 where the terminal does not say."""
        with suppress(OSError):
            columns, rows = os.get_terminal_size(self._out)
            if columns > 0 and rows > 0:
                return columns, rows
        return 80, 24

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines; only those are written that have changed."""
        self._take()  # who was started in the background, and is in front now, has not been told
        if not self._is_active:
            return
        if self._is_stale:
            self._is_stale, self._drawn = False, []
            self._write(b"\x1b[2J")
        shown = [self._bytes(line) for line in lines]
        before = self._drawn if len(self._drawn) == len(shown) else [b""] * len(shown)
        changed = b"".join(
            b"\x1b[%d;1H\x1b[2K%b" % (row, line)
            for row, (line, old) in enumerate(zip(shown, before, strict=True), start=1)
            if line != old
        )
        self._drawn = shown
        if changed:
            self._write(changed)

    def _bytes(self, line: Line) -> bytes:
        return "".join(map(self._styled, line)).encode(self._encoding, "backslashreplace")

    def _styled(self, span: Span) -> str:
        code = self._styles.get(span.style)
        return f"\x1b[{code}m{span.text}\x1b[0m" if code else span.text

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except BlockingIOError:  # somebody else has made the terminal non-blocking
            select.select([], [self._out], [])
            self._write(data)
        except OSError:
            raise Ended(signal.SIGHUP) from None

    def _keyboard(self) -> int:
        """Where keys come from: stdin if that is a terminal, else the one that we were started from."""
        if sys.stdin is not None and sys.stdin.isatty():
            return sys.stdin.fileno()
        try:
            return os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return self._out

    # ---- taking the terminal and giving it back ----

    def _is_in_front(self) -> bool:
        """Whether the terminal is ours now, and not that of a shell that has us in the background."""
        with suppress(OSError):
            return os.tcgetpgrp(self._keys) == os.getpgrp()
        return True  # not our controlling terminal: nobody takes it from us

    def _take(self) -> None:
        if self._is_active or not self._is_in_front():
            return
        self._modes = self._modes or termios.tcgetattr(self._keys)
        self._is_active = True
        tty.setcbreak(self._keys, termios.TCSADRAIN)
        self._drawn = []
        self._write(_ENTER)

    def _give_back(self) -> None:
        if not self._is_active or not self._is_in_front():
            return
        self._is_active = False
        with suppress(Ended):
            self._write(_LEAVE)
        with suppress(termios.error, OSError):
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: give the terminal back, stop as any other program, and take it again afterwards."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._stop)
        self._go_on(number, frame)

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        """We run again: a SIGSTOP has not asked us, and the shell has changed the terminal meanwhile."""
        if number == signal.SIGCONT:
            self._is_active = False
        self._take()
        self.wake()

    def _resize(self, number: int, frame: FrameType | None) -> None:
        self._is_stale = True
        self.wake()


def keys_in(typed: bytes) -> tuple[list[str], bytes]:
    """The names of the keys in what was typed, and the beginning of a sequence that waits for its end."""
    names = []
    while typed and not _BEGUN.fullmatch(typed):
        match = _SEQUENCE.match(typed)
        key = typed[:1] if match is None else match[0]
        typed = typed[len(key) :]
        names.append(KEYS.get(key, key.decode("ascii", "replace")))
    return names, typed


def _end(number: int, frame: FrameType | None) -> None:
    raise Ended(number)

"""Signs of life: a bar on stderr for work that takes long, if that is a terminal; nothing elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import click

from carbonmon.core.plain_text import plain
from carbonmon.runs.summary.figures import duration_text

DELAY_S, PERIOD_S = 1.0, 0.25
"""Work that is over before shows nothing; then the bar is drawn so often."""

WIDTH = 24
_ERASE = "\r\x1b[K\x1b[?25h"
"""Takes the bar's line away, and gives the cursor back that click hides."""

Item = TypeVar("Item")


@contextmanager
def working(label: str, total: int | None = None) -> Iterator[Callable[[], object]]:
    """A bar while the context lasts; call what it gives for each of `total` pieces of work that is done.

    Without a total the bar moves to and fro, with the time until now.
    """
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield lambda: None
        return
    shown = _Bar(plain(label), total if total != 1 else None)
    shown.start()
    try:
        yield shown.step
    finally:
        shown.close()


def over(items: Sequence[Item], label: str) -> Iterator[Item]:
    """The items, with a bar that says how many of them are done."""
    with working(label, len(items)) as step:
        for item in items:
            yield item
            step()


class _Bar:
    """Drawn by a thread of its own: the work may wait for a server meanwhile."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total = label, total
        self._done = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="carbonmon-progress", daemon=True)

    def start(self) -> None:
        with suppress(RuntimeError):  # no more threads for this user: the work matters more
            self._thread.start()

    def step(self) -> None:
        self._done += 1

    def close(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _draw(self) -> None:
        begin_s = time.monotonic()
        if self._over.wait(DELAY_S):
            return
        is_known = self._total is not None
        endless: Iterator[int] | None = None
        if not is_known:
            endless = (number for number in range(0))  # of no known length: the bar moves to and fro
        bar = click.progressbar(endless, self._total, file=sys.stderr, width=WIDTH, show_eta=is_known)
        with suppress(OSError, ValueError):  # a terminal that is gone is no reason to stop the work
            while True:
                bar.label = f"{self._label}, {duration_text(time.monotonic() - begin_s)}"
                bar.make_step(self._done - bar.pos if is_known else 1)
                bar.render_progress()  # update() draws nothing while no piece of work is done
                if self._over.wait(PERIOD_S):
                    break
            click.echo(_ERASE, file=sys.stderr, nl=False)

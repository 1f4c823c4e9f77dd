"""How this process, or a block of it, ends: the exit code or signal that a monitor is told.

Python tells `atexit` neither. So while a run is open `sys.excepthook` and `sys.exit` are wrapped, to note
what passes. A `SystemExit` that is raised in another way outside of every block (`raise`, the `exit` of
`site`) is not seen: it counts as 0.

Imported by the training process: standard library only.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

CANCELLATIONS = (("asyncio.exceptions", "CancelledError"), ("trio", "Cancelled"))
"""Exceptions that end work which is no longer wanted, each in a module that is loaded if one was raised."""


def outcome_of(error: BaseException | None) -> dict[str, int]:
    """The exit code or signal of a process that ends with this exception; a cancellation is no failure."""
    if isinstance(error, KeyboardInterrupt):
        return {"signal": 2}
    if isinstance(error, SystemExit):
        code = error.code
        return {"exit_code": code & 0xFF if isinstance(code, int) else int(code is not None)}
    return {"exit_code": int(error is not None and not _is_cancellation(error))}


def _is_cancellation(error: BaseException) -> bool:
    kinds = (getattr(sys.modules.get(module), name, None) for module, name in CANCELLATIONS)
    return isinstance(error, (GeneratorExit, *(kind for kind in kinds if kind is not None)))


class ProcessEnd:
    """Notes between `watch` and `unwatch` with what the process ends."""

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._hook: Callable[..., Any] | None = None
        self._exit: Callable[..., Any] | None = None

    def watch(self) -> None:
        if self._hook is None:
            self._error = None
            self._hook, self._exit = sys.excepthook, sys.exit
            sys.excepthook, sys.exit = self._on_exception, self._on_exit  # type: ignore[assignment]

    def unwatch(self) -> None:
        """Let go; who has wrapped ours meanwhile keeps it, and it only passes on."""
        if self._hook is None or self._exit is None:
            return
        if sys.excepthook == self._on_exception and sys.exit == self._on_exit:
            sys.excepthook, sys.exit = self._hook, self._exit
            self._hook = self._exit = None

    def outcome(self) -> dict[str, int]:
        """With what the process ends, as far as anything was noted. At a prompt it goes on after an error."""
        return outcome_of(None if hasattr(sys, "ps1") else self._error)

    def _on_exception(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        self._error = error
        (self._hook or sys.__excepthook__)(kind, error, trace)

    def _on_exit(self, status: Any = None, /) -> None:
        if threading.current_thread() is threading.main_thread():  # in another one it ends that thread alone
            self._error = SystemExit(status)
        if self._exit is not None:
            self._exit(status)
        raise SystemExit(status)

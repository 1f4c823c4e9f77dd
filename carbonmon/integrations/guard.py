"""Keeps faults of ours out of the training loop that calls us."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from carbonmon.client.connection import log, warn_once

Hook = TypeVar("Hook", bound=Callable[..., Any])


def guarded(hook: Hook) -> Hook:
    """The hook, which does nothing more where it fails: one warning, and the training goes on."""

    @functools.wraps(hook)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return hook(*arguments, **named)
        # A bug of ours, or a user's function that counts a batch, must not end a training.
        except Exception as error:  # noqa: BLE001
            name = hook.__qualname__
            warn_once(name, "carbonmon: %s failed, the training goes on without it: %r", name, error)
            log.debug("carbonmon: %s failed", name, exc_info=True)
            return None

    return call  # type: ignore[return-value]

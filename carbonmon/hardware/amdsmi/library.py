"""AMD's management library through the Python package of the installed ROCm, one for the whole process.

The library does not count who initialised it: one shutdown ends it for the whole process, and every handle
with it. So this counts the users, and shuts down after the last one. Before 7.2 it is not made for several
threads: every call is made under one lock. It is loaded in the monitor's process only, never in the job's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from carbonmon.core.errors import SensorUnavailable
from carbonmon.hardware.amdsmi.package import load

log = logging.getLogger(__name__)

NOT_SUPPORTED = frozenset((2, 3))
"""AMDSMI_STATUS_NOT_SUPPORTED, AMDSMI_STATUS_NOT_YET_IMPLEMENTED (amdsmi.h): asking again is in vain."""

NO_PERMISSION, DRIVER_NOT_LOADED = 10, 34
LOST = frozenset((18, 32, DRIVER_NOT_LOADED))
"""AMDSMI_STATUS_INIT_ERROR, _NOT_INIT, _DRIVER_NOT_LOADED: the library is to be initialised again."""

_WORDS = {
    2: "not_supported",
    3: "not_supported",
    8: "timeout",
    9: "retry",
    NO_PERMISSION: "permission",
    12: "io",
    18: "driver",
    30: "busy",
    31: "missing",
    32: "not_initialised",
    DRIVER_NOT_LOADED: "driver",
    40: "no_data",
}
"""Codes of amdsmi_status_t (amdsmi.h) as words for a label."""

REMEDIES = {
    NO_PERMISSION: "sudo usermod -aG render,video $USER   # then log in again",
    DRIVER_NOT_LOADED: "sudo modprobe amdgpu",
}


class CallError(Exception):
    """A call that failed: `code` is the library's, None of the package itself; `reason` is a label."""

    def __init__(self, code: int | None, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.reason = reason

    @property
    def is_unsupported(self) -> bool:
        return self.code in NOT_SUPPORTED or self.reason == "no_function"


class AmdsmiLibrary:
    """The initialised library. `generation` grows when it is initialised again: then all handles are void."""

    def __init__(self, module: ModuleType, origin: str) -> None:
        self.origin = origin
        """The package's version and folder, for people."""
        self.generation = 0
        self._module = module
        self._lock = threading.Lock()

    def call(self, function: str, *arguments: Any) -> Any:
        """The result of one call of the package; raises `CallError`."""
        call = getattr(self._module, function, None)
        if call is None:  # an older package
            raise CallError(None, "no_function", f"this release has no {function}")
        with self._lock:
            try:
                return call(*arguments)
            # Beside its own exceptions the package raises what its parsing of texts and enums raises.
            except Exception as error:  # noqa: BLE001
                raise _call_error(function, error) from None

    def handles(self) -> Sequence[Any]:
        """The handles of all GPUs, in the library's order; raises `CallError`."""
        found: Sequence[Any] = self.call("amdsmi_get_processor_handles")
        return found

    def initialise(self) -> None:
        """Initialise; raises `CallError`."""
        self.call("amdsmi_init")
        self.generation += 1

    def initialise_again(self) -> None:
        """Begin anew after a driver was reloaded, or after somebody shut the library down."""
        self.shut_down()
        self.initialise()

    def shut_down(self) -> None:
        try:
            self.call("amdsmi_shut_down")
        except CallError as error:  # it is down already, or its driver is away
            log.debug("amdsmi: %s", error)


class _Process:
    """What this process has: the library, and how many use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.library: AmdsmiLibrary | None = None
        self.users = 0


_process = _Process()


def acquire() -> AmdsmiLibrary:
    """The library, initialised; give it back by `release`. Raises `SensorUnavailable` with the reason."""
    with _process.lock:
        library = _process.library
        if library is None:
            module, origin = load()
            library = AmdsmiLibrary(module, origin)
            try:
                library.initialise()
            except CallError as error:
                raise SensorUnavailable(
                    f"AMD's library cannot be initialised: {error}",
                    REMEDIES.get(error.code or 0, "amd-smi list"),
                ) from None
            _process.library = library
        _process.users += 1
        return library


def acquire_if_used() -> AmdsmiLibrary | None:
    """The library if somebody in this process uses it already, else None; never waits for one that starts."""
    if not _process.lock.acquire(blocking=False):
        return None
    try:
        if _process.library is not None:
            _process.users += 1
        return _process.library
    finally:
        _process.lock.release()


def release() -> None:
    """One user less; the library is shut down after the last one."""
    with _process.lock:
        _process.users -= 1
        if _process.users == 0 and _process.library is not None:
            _process.library.shut_down()
            _process.library = None


def _call_error(function: str, error: Exception) -> CallError:
    code = getattr(error, "err_code", None)
    get_code = getattr(error, "get_error_code", None)
    if callable(get_code):
        code = get_code()
    if not isinstance(code, int):
        return CallError(None, "package", f"{function}: {type(error).__name__}: {_line(error)}")
    text = str(getattr(error, "err_info", "")) or _line(error)
    return CallError(code, _WORDS.get(code, f"amdsmi_{code}"), f"{function}: {text}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())

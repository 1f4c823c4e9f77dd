"""HLML through Habana's package: where its library is, what its errors mean, what it says of one card.

Values are those of hlml_return_t (hlml.h). The package makes its classes of errors anew at each start, so
that an error is told by its value. Its errors have no hash, and may be compared with one another only.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from carbonmon.core.errors import SensorUnavailable

UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, DRIVER_NOT_LOADED = 1, 2, 3, 9

DRIVER_ERRORS = (UNINITIALIZED, DRIVER_NOT_LOADED)
"""The whole driver is away, or was loaded anew: every handle is void."""

NEEDED = (
    "HLMLError",
    "hlmlInit",
    "hlmlShutdown",
    "hlmlDeviceGetCount",
    "hlmlDeviceGetHandleByIndex",
    "hlml_lib",
)

LIBRARY = "/usr/lib/habanalabs/libhlml.so"

REMEDIES = {
    UNINITIALIZED: "install Intel Gaudi's software (package habanalabs-firmware-tools) on this machine",
    DRIVER_NOT_LOADED: "sudo modprobe habanalabs   # the driver is installed but not loaded",
}
"""What mends an error, for people."""

NO_PACKAGE = "pip install habana-pyhlml   # into this Python, in the version of the installed Gaudi software"


def import_hlml() -> Any:
    """The package; raises `SensorUnavailable` where it, or the library that it loads, cannot be used here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of its own modules' age while it is imported
            import pyhlml
            import pyhlml.hlml_lib
    except Exception as error:  # noqa: BLE001 (a third party's module may raise anything while it is imported)
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == "pyhlml"
        reason = (
            "the package pyhlml is not here" if is_missing else f"pyhlml cannot be imported: {error!r:.200}"
        )
        raise SensorUnavailable(reason, NO_PACKAGE) from None
    missing = [name for name in NEEDED if not hasattr(pyhlml, name)]
    if missing:
        raise SensorUnavailable(
            f"the package pyhlml here is not Habana's: it has no {missing[0]}", NO_PACKAGE
        )
    check_library(pyhlml)
    return pyhlml


def check_library(hlml: Any) -> None:
    """Raise `SensorUnavailable` where the library cannot be loaded: the package would print a line then, on
    the stream that is the job's."""
    init = getattr(getattr(hlml.hlml_lib, "LibHLML", None), "__init__", None)
    path = next(iter(getattr(init, "__defaults__", None) or ()), LIBRARY)
    import ctypes

    try:
        ctypes.CDLL(path)
    except OSError as error:
        raise SensorUnavailable(f"HLML: {error}", REMEDIES[UNINITIALIZED]) from None


def own_handle(handle: Any) -> Any:
    """A handle that stays what it is: pyhlml 1.9 gives one object for all cards, and each look-up changes it
    (findings/pyhlml-one-handle-for-all.sh)."""
    import ctypes

    return ctypes.c_void_p(handle.value)


def reason(error: Any) -> str:
    """A stable word for a label: the error's name in hlml.h, lower case: `aip_is_lost`."""
    name = type(error).__name__.removeprefix("HLMLError").removeprefix("_")
    word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return "not_loaded" if word == "driver_not_loaded" else word or f"hlml_{int(error.value)}"


def ask(hlml: Any, function: str, *arguments: Any) -> Any:
    """The result of a call, None if it fails or if this package has no such function."""
    call = getattr(hlml, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except hlml.HLMLError:
        return None


def text(value: Any) -> str:
    """A text of HLML: bytes that end at the first 0, in whatever encoding."""
    plain = value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
    return "".join(letter for letter in plain.partition("\0")[0].strip() if letter.isprintable())


def status(hlml: Any, handle: Any) -> str:
    """What the driver says of a card that cannot be read, as `in reset`; "" where it says nothing."""
    return text(ask(hlml, "hlmlDeviceGetOperationStatus", handle))

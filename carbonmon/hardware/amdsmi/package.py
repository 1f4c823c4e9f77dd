"""Finds and imports the Python package `amdsmi` that belongs to the installed ROCm, and no other.

The layout of the library's structs changed with ROCm 6.4 and 7.0, and nothing checks it: a package of
another release reads 0 W, and watts as a voltage, without an error. ROCm's own package has the library's
version, that of the package index has ROCm's. Where they lie: ROCm's documentation, "AMD SMI packaging and
install paths".
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from carbonmon.core.errors import SensorUnavailable

log = logging.getLogger(__name__)

NAME = "amdsmi"
ROOT = Path("/opt")
_INSTALLATIONS = ("rocm", "rocm-*", "rocm/core-*")
_PACKAGE = Path("share", "amd_smi", NAME, "__init__.py")
REMEDY = "export ROCM_PATH=/opt/rocm   # the installation whose library is loaded; then: amd-smi version"


def load() -> tuple[ModuleType, str]:
    """The package that fits the library, and its version and folder for people.

    Raises `SensorUnavailable` with what is wrong with each package that was found.
    """
    reasons: list[str] = []
    for path in dict.fromkeys(_candidates()):
        try:
            # stdout is the job's, and no warning of its compilation is for our users
            with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = _imported(path)
                version = _version_of(module)
        # Without its library a package raises KeyError, with an older one AttributeError.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            text = " ".join(printed.getvalue().split()) or " ".join(str(error).split())
            reasons.append(f"{path.parent}: {type(error).__name__}: {text[:300]}")
            forget()
            continue
        if isinstance(version, str):
            return module, f"amdsmi {version}, {path.parent}"
        reasons.append(f"{path.parent}: {version.reason}")
        forget()
    if reasons:
        raise SensorUnavailable("; ".join(reasons), REMEDY)
    raise SensorUnavailable(
        f"ROCm's Python package amdsmi is neither in {ROOT}/rocm/share/amd_smi nor installed",
        "sudo apt install amd-smi-lib   # or your distribution's package of ROCm's AMD SMI",
    )


class _Misfit:
    """Why a package does not belong to the library."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _candidates() -> Iterator[Path]:
    """Packages in the order in which they are tried: the user's installation, others, the interpreter's."""
    chosen = [Path(os.environ[name]) for name in ("ROCM_HOME", "ROCM_PATH") if os.environ.get(name)]
    others = [
        path
        for pattern in _INSTALLATIONS
        for path in sorted(ROOT.glob(pattern), key=_version_in, reverse=True)
    ]
    for folder in [*chosen, *others]:
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: a loop of links
            path = (folder / _PACKAGE).resolve()
            if path.is_file():
                yield path
    found = None
    with contextlib.suppress(ImportError, ValueError):  # ValueError: a module without a specification
        found = importlib.util.find_spec(NAME)
    if found is not None and found.origin is not None:
        yield Path(found.origin)


def _version_in(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]{1,9}", path.name)]


def _imported(path: Path) -> ModuleType:
    """Import the package at a path, under its own name and no other's search path."""
    forget()
    found = importlib.util.spec_from_file_location(NAME, path, submodule_search_locations=[str(path.parent)])
    if found is None or found.loader is None:
        raise ImportError(f"{path} is no Python package")
    module = importlib.util.module_from_spec(found)
    sys.modules[NAME] = module
    found.loader.exec_module(module)
    return module


def forget() -> None:
    """Take the package out of the interpreter; its library stays loaded."""
    for name in [name for name in sys.modules if name == NAME or name.startswith(f"{NAME}.")]:
        del sys.modules[name]


def _version_of(module: ModuleType) -> str | _Misfit:
    """The version that package and library agree on; it is told before the library is initialised."""
    own = str(getattr(module, "__version__", ""))
    told = module.amdsmi_get_lib_version()
    library = [int(told[key]) for key in ("year", "major", "minor", "release") if key in told]
    text = ".".join(map(str, library[:3]))
    if re.findall(r"[0-9]+", own.partition("+")[0])[:3] != text.split("."):
        return _Misfit(
            f"the package is {own or 'of no version'}, the library {text}: only ROCm's own package fits it"
        )
    return text

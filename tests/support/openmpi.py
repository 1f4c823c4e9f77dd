"""A real mpirun: the machine's own Open MPI, or Debian's package unpacked below build/ and not installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.support import debian

PACKAGES = ("openmpi-bin", "openmpi-common", "libopenmpi3")


def unpacked() -> Path | None:
    """Debian's Open MPI with the libraries that this machine lacks; None where it cannot be had."""
    return debian.unpacked("openmpi", "usr/bin/mpirun.openmpi", PACKAGES, with_libraries=True)


def missing() -> str:
    """Why there is no mpirun here, "" if there is one."""
    return "" if shutil.which("mpirun") or unpacked() else "no mpirun, and no apt-get to fetch Debian's with"


def mpirun(processes: int) -> tuple[list[str], dict[str, str]]:
    """The words before the command of each rank, and the environment that mpirun itself needs."""
    words = ["-np", str(processes), "--oversubscribe", "--bind-to", "none"]
    environ = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    installed = shutil.which("mpirun")
    if installed:
        return [installed, *words], environ
    prefix = unpacked()
    assert prefix is not None
    (home,) = prefix.glob("usr/lib/*/openmpi")
    environ |= {
        "OPAL_PREFIX": str(prefix / "usr"),
        "OPAL_LIBDIR": str(home / "lib"),
        "OPAL_PKGLIBDIR": str(home / "lib" / "openmpi3"),
        "OPAL_DATADIR": str(prefix / "usr/share"),
        "OPAL_PKGDATADIR": str(prefix / "usr/share/openmpi"),
        "OPAL_SYSCONFDIR": str(prefix / "etc"),
        "LD_LIBRARY_PATH": f"{home.parent}:{home}/lib:{os.environ.get('LD_LIBRARY_PATH', '')}",
    }
    return [str(prefix / "usr/bin/mpirun.openmpi"), *words], environ

"""Compiles the C half of the simulator, once for each content of its sources."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / "build" / "simulator"
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
LIBRARY = "libnvidia-ml.so.1"
DAEMON = "powercapd"
IPMI_DEVICE = "libipmi-device.so"
HLML = "libhlml.so"
LEVEL_ZERO = "libze_loader.so.1"
AMDSMI = "libamd_smi.so"
# The soname lets a copy that is already loaded answer for the name when pynvml asks for it.
COMMANDS = {
    LIBRARY: (
        *("-shared", "-fPIC", "-fvisibility=hidden", "-pthread", f"-Wl,-soname,{LIBRARY}"),
        *("nvml_core.c", "nvml_device.c", "nvml_readings.c"),
    ),
    DAEMON: ("powercapd.c",),
    AMDSMI: ("-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "amdsmi.c"),
    IPMI_DEVICE: ("-shared", "-fPIC", "ipmi_device.c"),
    HLML: ("-shared", "-fPIC", "-fvisibility=hidden", "hlml.c"),
    LEVEL_ZERO: ("-shared", "-fPIC", "-fvisibility=hidden", f"-Wl,-soname,{LEVEL_ZERO}", "levelzero.c"),
}


def can_build() -> bool:
    """Whether this machine has a C compiler."""
    return shutil.which("gcc") is not None


@cache
def built() -> Path:
    """The folder with the library and the daemon; raises `subprocess.CalledProcessError` with gcc's words.

    Processes that build at once each compile into a folder of their own; the first to rename it wins.
    """
    digest = hashlib.sha256(repr((FLAGS, COMMANDS, platform.machine())).encode())
    for source in sorted([*HERE.glob("*.c"), *HERE.glob("*.h"), *HERE.glob("*.inc")]):
        digest.update(source.name.encode() + source.read_bytes())
    folder = CACHE / digest.hexdigest()[:16]
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".building-", dir=CACHE))
    try:
        for output, arguments in COMMANDS.items():
            command = ["gcc", *FLAGS, *arguments, "-lm", "-o", str(fresh / output)]
            subprocess.run(command, cwd=HERE, check=True)
        fresh.chmod(0o755)
        fresh.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder

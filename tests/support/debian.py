"""Debian's packages, unpacked below build/ and not installed: fetched once, by whoever asks first."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "build"
APT_S = 300.0


@contextmanager
def one_process_at_a_time(name: str) -> Iterator[None]:
    """Wait until no other process of this checkout is in here under the same name."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@cache
def unpacked(
    name: str, expected: str, packages: Sequence[str], *, with_libraries: bool = False
) -> Path | None:
    """The folder build/NAME with the packages' files, among them `expected`; None where they cannot be had.

    `with_libraries` takes along what the packages depend on and this machine lacks.
    """
    folder = BUILD / name
    with one_process_at_a_time("apt"):
        if not (folder / expected).exists() and shutil.which("apt-get"):
            _fetch(folder, packages, with_libraries)
    return folder if (folder / expected).exists() else None


def program(package: str, name: str = "") -> str | None:
    """The machine's own program, or that of the Debian package; None if neither can be had."""
    name = name or package
    found = shutil.which(name)
    if found is None and (folder := unpacked(package, f"usr/bin/{name}", (package,))):
        return str(folder / "usr" / "bin" / name)
    return found


def _fetch(folder: Path, packages: Sequence[str], with_libraries: bool) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=BUILD))
    try:
        for refresh in (False, True):  # most often the lists are new enough
            if refresh:
                _apt("update", "-qq", folder=fresh)
            names = _with_libraries(packages, fresh) if with_libraries else list(packages)
            if _apt("download", "-qq", *names, folder=fresh).returncode == 0:
                break
        for package in fresh.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(fresh)], check=True)
            package.unlink()
        fresh.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _with_libraries(packages: Sequence[str], folder: Path) -> list[str]:
    plan = _apt("install", "--simulate", "--no-install-recommends", *packages, folder=folder).stdout
    return sorted({*packages, *re.findall(r"^Inst (\S+)", plan, re.MULTILINE)})


def _apt(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", *words], cwd=folder, capture_output=True, text=True, timeout=APT_S, check=False
    )

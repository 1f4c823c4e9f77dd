"""The other projects' releases: fetched once, checked by their hashes, and read as archives."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("packages.txt")
CO2_JS = ("@tgwf/co2@0.19.0", "tgwf-co2-0.19.0.tgz")
CO2_JS_SHA256 = "921bf6ba23bb009d746fab91f40864bf5dbaf109ae7b1dc7ef1c830ed7e77e26"
"""From the npm registry; all the others are from PyPI, their hashes are in packages.txt."""


class Packages:
    """The files of the pinned releases in a folder, which `fetch` fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fetch(self) -> None:
        """Get what is not there yet.

        Raises CalledProcessError, or ValueError for another file than was pinned.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if len(list(self.folder.glob("*.whl"))) < len(self.pins()):
            command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:")
            _run(*command, "--require-hashes", "--dest", self.folder, "-r", REQUIREMENTS)
        archive = self.folder / CO2_JS[1]
        if not archive.exists():
            npm = shutil.which("npm")
            if npm is None:
                raise ValueError(f"npm is needed to fetch {CO2_JS[0]}")
            _run(npm, "pack", "--silent", CO2_JS[0], "--pack-destination", self.folder)
        if hashlib.sha256(archive.read_bytes()).hexdigest() != CO2_JS_SHA256:
            raise ValueError(f"{archive} is not the release that was pinned")

    @staticmethod
    def pins() -> dict[str, str]:
        """Name and release of what comes from PyPI."""
        lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
        pins = (line.split()[0].partition("==") for line in lines if line and not line.startswith("#"))
        return {name: release for name, _, release in pins}

    def text(self, package: str, member: str) -> str:
        """A file of a package: `member` is its path, or the end of it."""
        if package == CO2_JS[0].rpartition("@")[0]:
            with tarfile.open(self.folder / CO2_JS[1]) as archive:
                file = archive.extractfile(f"package/{member}")
                if file is None:
                    raise ValueError(f"{member} is no file of {package}")
                return file.read().decode("utf-8-sig")
        (wheel,) = self.folder.glob(f"{package.replace('-', '_')}-*.whl")
        with zipfile.ZipFile(wheel) as archive_:
            (name,) = (name for name in archive_.namelist() if name.endswith(member))
            return archive_.read(name).decode("utf-8-sig")

    def boavizta_gpus(self) -> dict[str, float]:
        """kgCO2e of making each GPU of BoaviztAPI, by its own model in an environment of its own."""
        kept = self.folder / "boavizta_gpus.json"
        if not kept.exists():
            python = self.folder / "venv" / "bin" / "python"
            if not python.exists():
                _run(sys.executable, "-m", "venv", self.folder / "venv")
                _run(python, "-m", "pip", "install", "--quiet", f"boaviztapi=={self.pins()['boaviztapi']}")
            script = Path(__file__).with_name("boavizta_gpus.py")
            done = subprocess.run([python, script], check=True, capture_output=True, text=True)
            kept.write_text(done.stdout, encoding="utf-8")
        found: dict[str, float] = json.loads(kept.read_text(encoding="utf-8"))
        return found


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True)

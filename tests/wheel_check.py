"""Proves that the built wheel works outside the tree: builds it, installs it alone, and uses it.

Run by `make wheel-test`; `tests/release.py` uses its parts. It is no pytest file, because the environment
under test has no pytest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
BUILD = TREE / "build" / "wheel"
EXPECTED_FILES = (
    "carbonmon/py.typed",
    "carbonmon/data/carbon_intensity.csv",
    "carbonmon/data/corrections.csv",
    "carbonmon/data/cpus.csv",
    "carbonmon/data/gpu_peaks.csv",
    "carbonmon/data/gpus.csv",
    "carbonmon/data/nvml_names.csv",
    "carbonmon/data/pue_water.csv",
    "carbonmon/data/SOURCES.md",
    "carbonmon_exporters/py.typed",
    "carbonmon_exporters/page/static/page.html",
    "carbonmon_exporters/page/static/page.js",
    "carbonmon/runs/summary/summary.schema.json",
)
SHARED_FILES = (
    "share/man/man1/carbonmon.1",
    "share/bash-completion/completions/carbonmon",
    "share/zsh/site-functions/_carbonmon",
    "share/fish/vendor_completions.d/carbonmon.fish",
)
"""Below the prefix of the environment."""
DEPENDENCIES = {"click", "nvidia-ml-py", "prometheus-client", "psutil", "pyrapl"} | (
    {"tomli"} if sys.version_info < (3, 11) else set()
)
MAX_INSTALLED_MB = 12.4


def main() -> None:
    shutil.rmtree(BUILD, ignore_errors=True)
    run([sys.executable, "-m", "build", "--wheel", "--outdir", str(BUILD), str(TREE)], cwd=TREE)
    (wheel,) = BUILD.glob("carbonmon-*.whl")
    check_contents(wheel)
    with clean_environment(wheel):
        pass
    print(f"wheel-test: {wheel.name} works outside the tree")  # noqa: T201 (this is a program)


@contextmanager
def clean_environment(distribution: Path) -> Iterator[Path]:
    """Install a wheel or a source archive alone outside the tree, try it, and give the Python there."""
    with tempfile.TemporaryDirectory(prefix="carbonmon-wheel-") as elsewhere:
        folder = Path(elsewhere)
        venv.create(folder / "venv", with_pip=False)
        python = folder / "venv" / "bin" / "python"
        run([*pip(python), "install", "--quiet", str(distribution)], cwd=folder)
        check_use(folder, python)
        check_size(folder, python)
        yield python


def check_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in EXPECTED_FILES if name not in names]
    expect(not missing, f"the wheel lacks {missing}")
    tops = {name.partition("/")[0] for name in names}
    strange = {top for top in tops if not top.startswith(("carbonmon", "carbonmon_exporters"))}
    expect(not strange, f"the wheel would put {strange} into everybody's site-packages")


def check_use(folder: Path, python: Path) -> None:
    command = str(python.with_name("carbonmon"))
    where = run([str(python), "-c", "import carbonmon; print(carbonmon.__file__)"], cwd=folder)
    expect(str(folder) in where, f"the installed package was not used: {where}")
    lacking = [name for name in SHARED_FILES if not (python.parent.parent / name).is_file()]
    expect(not lacking, f"the environment lacks {lacking}")
    expect("carbonmon, version" in run([command, "--version"], cwd=folder), "no version")
    doctor = json.loads(run([command, "doctor", "--json"], cwd=folder))
    expect({source["source"] for source in doctor["sources"]} >= {"nvml", "rapl", "tdp", "dram"}, f"{doctor}")
    options = ["--listen", "127.0.0.1:0", "--region", "FR", "--run-id", "wheel"]
    run([command, "run", *options, "--", str(python), "-c", "pass"], cwd=folder)
    summary = json.loads((folder / "carbonmon-runs" / "wheel" / "summary.json").read_text())
    expect(summary["state"] == "final" and summary["run"]["exit_code"] == 0, f"{summary}")


def check_size(folder: Path, python: Path) -> None:
    listed = run([*pip(python), "list", "--format", "json"], cwd=folder)
    packages = {entry["name"].lower().replace("_", "-") for entry in json.loads(listed)}
    expect(packages == DEPENDENCIES | {"carbonmon"}, f"not just its dependencies: {packages}")
    files = [
        path for path in (folder / "venv" / "lib").rglob("*") if path.is_file() and not path.is_symlink()
    ]
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    expect(size_mb <= MAX_INSTALLED_MB, f"{size_mb:.1f} MB installed, at most {MAX_INSTALLED_MB} wanted")
    print(f"wheel-test: {size_mb:.1f} MB installed beyond bare Python")  # noqa: T201 (this is a program)


def pip(python: Path) -> list[str]:
    """Our pip working on another environment, which then needs none of its own."""
    return [sys.executable, "-m", "pip", "--python", str(python)]


def run(command: list[str], cwd: Path, environ: Mapping[str, str] = os.environ) -> str:
    environ = {key: value for key, value in environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    expect(done.returncode == 0, f"{' '.join(command)} gave {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(f"wheel-test: {otherwise}")


if __name__ == "__main__":
    main()

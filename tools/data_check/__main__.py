"""`python -m tools.data_check`: fetch, compare, write the page; exit code 1 where a verdict is missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["CARBONMON_DATA"] = "package"  # before the first look-up: the bundled tables are what is compared

from tools.data_check.comparison import compare, read_verdicts
from tools.data_check.ours import own
from tools.data_check.packages import CO2_JS, Packages
from tools.data_check.page import page
from tools.data_check.theirs import figures

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "data-check"
PAGE = ROOT / "docs" / "develop" / "data-check.md"
LICENCES = {
    "codecarbon": "MIT",
    "boaviztapi": "AGPL-3.0",
    "ecologits": "MPL-2.0",
    "lightning-fabric": "Apache-2.0",
    "torchtitan": "BSD-3-Clause",
    CO2_JS[0].rpartition("@")[0]: "Ember CC-BY-SA-4.0; Electricity Maps ODbL-1.0",
}


def main() -> int:
    """Write the page and say in a few lines what is left to judge."""
    packages = Packages(FOLDER)
    packages.fetch()
    found = compare(figures(packages), own, read_verdicts())
    releases = packages.pins() | dict([CO2_JS[0].rsplit("@", 1)])
    PAGE.write_text(
        page(found, {name: (releases[name], text) for name, text in LICENCES.items()}), encoding="utf-8"
    )
    unjudged = [each for each in found.differences if each.verdict is None]
    lines = [
        f"no verdict: {each.theirs.kind}: {each.theirs.key}: {each.ours.value}, "
        f"{each.theirs.source} {each.theirs.value}"
        for each in unjudged
    ]
    lines += [f"no verdict of its own, and two sources deny it: {row}" for row in found.denied]
    lines += [f"a verdict on nothing: {verdict.kind}: {verdict.reason}" for verdict in found.unused]
    known = sum(count.known for count in found.counts)
    differ = f"{len(found.differences)} differ, {len(unjudged)} without a verdict"
    lines.append(f"{known} figures compared, {differ}: {PAGE}")
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 1 if unjudged or found.denied or found.unused else 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes the pictures of the documentation: what a real browser shows of a real run on simulated hardware.

python -m tests.images
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.simulator import Gpu, Package, Simulator, Sine, Square
from tests.support import command
from tests.support.browser import Browser, program

FOLDER = Path(__file__).parents[1] / "docs" / "images"
LARGEST_BYTES = {"page.png": 150_000, "report.png": 100_000}
RUN_S = 75.0
WIDTH, HEIGHT, REPORT_HEIGHT = 1100, 1000, 840

JOB = """
import time, carbonmon
with carbonmon.track(name="resnet50") as run:
    with run.phase("load"):
        time.sleep(8)
    for epoch in range(100):
        with run.phase("train"):
            for batch in range(8):
                run.progress(epoch * 8 + batch, 56)
                time.sleep(2)
        with run.phase("eval"):
            time.sleep(5)
"""


def main() -> int:
    if program() is None:
        sys.stderr.write("no Chromium, and no apt-get to fetch it\n")
        return 1
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="carbonmon-images-") as place:
        folder = Path(place)
        gpus = [Gpu(profile=Square(90 + 5 * number, 310 - 8 * number, 7.0)) for number in range(4)]
        packages = [Package(profile=Sine(110, 25, period_s=19.0)) for _ in range(2)]
        with Simulator(gpus=gpus, packages=packages) as machine, Browser(folder / "browser") as browser:
            options = ["--idle", "exclusive", "--sysfs", str(machine.sysfs), "--region", "FR"]
            options += [
                "--name",
                "resnet50",
                "--run-id",
                "resnet50-a",
                "--host",
                "node1",
                "--gpus",
                "0,1,2,3",
            ]
            job = ["--", sys.executable, "-c", JOB]
            process = command.start(["run", *options, *job], folder, env=machine.environ)
            try:
                url = command.metrics_address(process).removesuffix("metrics")
                time.sleep(RUN_S)
                tab = browser.open(url, width=WIDTH, height=HEIGHT)
                tab.wait_for("document.querySelector('#time')?.max > 30")
                tab.picture(FOLDER / "page.png", whole=False)
            finally:
                process.terminate()
                process.communicate(timeout=command.DEADLINE_S)
            report = folder / "report.html"
            report.write_text(command.run(["report", "resnet50-a", "--format", "html"], folder).stdout)
            tab = browser.open(report.as_uri(), width=WIDTH, height=REPORT_HEIGHT)
            tab.wait_for("document.querySelector('blockquote')")
            tab.picture(FOLDER / "report.png", whole=False)
    sizes = {name: (FOLDER / name).stat().st_size for name in LARGEST_BYTES}
    for name, size in sizes.items():
        sys.stdout.write(f"docs/images/{name}: {size / 1e3:.0f} kB\n")
    return 0 if all(size <= LARGEST_BYTES[name] for name, size in sizes.items()) else 1


if __name__ == "__main__":
    sys.exit(main())

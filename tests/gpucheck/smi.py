"""`nvidia-smi` beside the meter: its power draw with its own time stamps."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from datetime import datetime
from types import TracebackType

from tests.gpucheck.series import Track
from tests.gpucheck.subject import Subject

PERIOD_MS = 200
START_S = 5.0
"""How long its first line is waited for."""


class Smi:
    """`nvidia-smi` for the time of the block; afterwards `track` is (Unix time in s, W).

    `why` says why the track is empty. The lines go to a file, so that nobody has to read them meanwhile.
    """

    def __init__(self, subject: Subject) -> None:
        self.track: Track = []
        self.why = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._subject = subject

    def __enter__(self) -> Smi:
        subject = self._subject
        program = shutil.which("nvidia-smi", path=subject.environ.get("PATH"))
        if not subject.real_time:
            self.why = "virtual time"
        elif program is None:
            self.why = "nvidia-smi is not there"
        else:
            command = [program, "--query-gpu=timestamp,power.draw", "--format=csv,noheader,nounits"]
            self._lines = tempfile.TemporaryFile("w+")
            self._process = subprocess.Popen(
                [*command, "-i", subject.uuid, "-lms", str(PERIOD_MS)],
                env={**os.environ, **subject.environ},
                stdout=self._lines,
                stderr=subprocess.STDOUT,
            )
            end_s = time.monotonic() + START_S
            while not os.fstat(self._lines.fileno()).st_size and time.monotonic() < end_s:
                time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait()
        with self._lines:
            self._lines.seek(0)
            text = self._lines.read()
        self.track = parsed(text)
        if not self.track:
            self.why = f"nvidia-smi said {text.strip().splitlines()[:1]}"


def parsed(text: str) -> Track:
    """Lines of "2026/11/24 12:00:00.123, 71.50" in local time; others are left out, as a torn last one."""
    track: Track = []
    for line in text.splitlines():
        stamp, _, power = line.partition(", ")
        try:
            at_s = datetime.strptime(stamp, "%Y/%m/%d %H:%M:%S.%f").timestamp()
            track.append((at_s, float(power)))
        except ValueError:
            continue
    return track

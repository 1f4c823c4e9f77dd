"""Loads for a real GPU: processes by PyTorch, else CuPy, else a CUDA program built with nvcc."""

from __future__ import annotations

import importlib.util
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.gpucheck import worker
from tests.gpucheck.subject import ROOT, python_environ

START_TIMEOUT_S = 60.0
"""Importing PyTorch and making a context take some seconds, longer from a cold disk."""
SOURCE = Path(__file__).with_name("load.cu")
LIBRARIES = {"torch": "PyTorch", "cupy": "CuPy"}


class WorkerLoad:
    """One process that works on the GPU as it is told (worker.py, load.cu)."""

    def __init__(self, kind: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.kind = kind
        self._lines: queue.Queue[str] = queue.Queue()
        self._edges: list[tuple[float, bool]] = []
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `close`)
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> str:
        """ "" once it can work, else why it cannot."""
        try:
            line = self._lines.get(timeout=START_TIMEOUT_S)
        except queue.Empty:
            return f"not ready after {START_TIMEOUT_S:.0f} s"
        if line == "ready":
            return ""
        self._process.wait()
        self._log.seek(0)
        said = self._log.read().strip().splitlines()
        return said[-1][:200] if said else f"ended with {self._process.returncode}"

    def idle(self) -> None:
        self._tell("idle")

    def steady(self) -> None:
        self._tell("steady")

    def square(self, period_s: float) -> None:
        self._collect()
        self._edges.clear()
        self._tell(f"square {period_s}")

    def edges(self) -> Sequence[tuple[float, bool]]:
        self._collect()
        return list(self._edges)

    def close(self) -> None:
        """Let it end; one that hangs in the driver is killed."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(BrokenPipeError):  # it has ended already
                self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put("ended")

    def _collect(self) -> None:
        while True:
            try:
                word, _, at_s = self._lines.get_nowait().partition(" ")
            except queue.Empty:
                return
            if word in ("on", "off"):
                self._edges.append((float(at_s), word == "on"))


class Pair:
    """Two such processes, both as busy as they can be."""

    def __init__(self, first: WorkerLoad, second: WorkerLoad) -> None:
        self._loads = first, second
        self.pids = first.pid, second.pid
        for load in self._loads:
            load.steady()

    def close(self) -> None:
        for load in self._loads:
            load.idle()


class Loads:
    """The first kind of load that works here, in as many processes as are asked for."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._environ = python_environ(environ)
        self._folder = folder
        self._started: list[WorkerLoad] = []
        self.why: list[str] = []
        """What was tried and does not work here."""
        self.kind = ""
        self._command: list[str] = []

    def start(self, count: int) -> list[WorkerLoad]:
        """So many ready processes, all of one kind; none if nothing works, then `why` says it all."""
        for kind, name, command in self._candidates():
            fresh = [WorkerLoad(name, command, self._environ) for _ in range(count)]
            self._started += fresh
            trouble = next(filter(None, [load.wait_ready() for load in fresh]), "")
            if not trouble:
                self.kind, self._command = kind, command
                return fresh
            self.why.append(f"{name}: {trouble}")
            for load in fresh:
                load.close()
        return []

    def close(self) -> None:
        for load in self._started:
            load.close()
        self._started.clear()

    @property
    def training(self) -> list[str]:
        """The arguments of train.py for this kind."""
        return [self.kind, *self._command] if self.kind == "cuda" else [self.kind]

    @property
    def python(self) -> str:
        """The Python that has the library."""
        return self._command[0] if self.kind in LIBRARIES else sys.executable

    def _candidates(self) -> Iterator[tuple[str, str, list[str]]]:
        for python in _pythons():
            for kind, name in LIBRARIES.items():
                if _has(python, kind):
                    yield kind, f"{name} ({python})", [python, "-m", worker.__name__, kind]
                else:
                    self.why.append(f"{name}: not in {python}")
        program = self._built()
        if program is not None:
            yield "cuda", "a CUDA program", [str(program)]

    def _built(self) -> Path | None:
        nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
        if nvcc is None:
            self.why.append("CUDA: nvcc is not there")
            return None
        program = self._folder / "load"
        done = subprocess.run(
            [nvcc, "-O2", "-o", str(program), str(SOURCE)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            self.why.append(f"CUDA: nvcc: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
            return None
        return program


def _pythons() -> list[str]:
    """This Python, and the one that a shell finds, if it is another."""
    other = shutil.which("python3")
    return [sys.executable] if other in (None, sys.executable) else [sys.executable, str(other)]


def _has(python: str, module: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec(module) is not None
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0

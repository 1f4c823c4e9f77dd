"""A real Chromium without a window, driven through its DevTools pipe: NUL-ended JSON on two descriptors."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support import debian

DEADLINE_S = 90.0
PACKAGE = "chromium-headless-shell"
FOLDER = "usr/lib/chromium"
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio")
_NAMES = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome")


def program() -> list[str] | None:
    """The command of the machine's own browser, or of Debian's; None if neither can be had."""
    own = next(filter(None, map(shutil.which, _NAMES)), None)
    if own is not None:
        return [own]
    folder = debian.unpacked(
        "chromium", f"{FOLDER}/{PACKAGE}", (PACKAGE, "fonts-dejavu-core"), with_libraries=True
    )
    return None if folder is None else [str(folder / FOLDER / PACKAGE)]


_AS_3_AND_4 = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
"""The browser reads commands from descriptor 3 and writes answers to 4."""


class NavigatedError(AssertionError):
    """The page has gone to another one meanwhile."""


class Browser:
    """One process of the browser; `open` gives a page."""

    def __init__(self, folder: Path) -> None:
        command = program()
        assert command is not None
        ours_in, theirs_out = _pipe()
        theirs_in, ours_out = _pipe()
        options = [
            *(
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--remote-debugging-pipe",
                "--disable-extensions",
            ),
            *("--disable-background-networking", "--disable-dev-shm-usage", "--no-first-run"),
            f"--user-data-dir={folder}",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _AS_3_AND_4, str(theirs_in), str(theirs_out), *command, *options],
            pass_fds=(theirs_in, theirs_out),
            env=_environ(Path(command[0])),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for theirs in (theirs_in, theirs_out):
            os.close(theirs)
        self._in, self._out = ours_in, ours_out
        self._received = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def open(self, url: str, *, width: int = 1100, height: int = 900, dark: bool = False) -> Tab:
        """A page of its own at this address."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = Tab(self, target, session)
        tab.resize(width, height)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        tab.call("Emulation.setEmulatedMedia", {"features": scheme})
        for domain in ("Page", "Runtime", "Log"):
            tab.call(f"{domain}.enable")
        tab.call("Page.navigate", {"url": url})
        return tab

    def call(
        self, method: str, parameters: Mapping[str, Any] | None = None, session: str | None = None
    ) -> dict[str, Any]:
        """The result of a method of the protocol; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            found = self._next(deadline_s)
            if found.get("id") == self._number:
                if "navigated" in str(found.get("error")):
                    raise NavigatedError(f"{method}: {found['error']}")
                if "error" in found:
                    raise AssertionError(f"{method}: {found['error']}")
                result: dict[str, Any] = found["result"]
                return result
            self.events.append(found)

    def _next(self, deadline_s: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([self._in], [], [], left_s)[0]:
                raise AssertionError(f"the browser did not answer within {DEADLINE_S} s")
            chunk = os.read(self._in, 1 << 20)
            if not chunk:
                raise AssertionError("the browser has ended")
            self._received += chunk
        message, _, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


class Tab:
    """A page that is open."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    def call(self, method: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._browser.call(method, parameters, self._session)

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", size)

    def evaluate(self, script: str) -> Any:
        """The value of an expression, or of what it promises."""
        options = {"expression": script, "returnByValue": True, "awaitPromise": True}
        found = self.call("Runtime.evaluate", options)
        if "exceptionDetails" in found:
            raise AssertionError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Return as soon as an expression is true."""
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            with contextlib.suppress(NavigatedError):
                if self.evaluate(f"!!({script})"):
                    return
            time.sleep(0.02)
        raise AssertionError(f"{script} did not become true; the page says:\n{self.text()}")

    def text(self) -> str:
        """What a person reads."""
        shown: str = self.evaluate("document.body ? document.body.innerText : ''")
        return shown

    def complaints(self) -> list[str]:
        """What the page's scripts failed at, and what its policy refused."""
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(event["params"]["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] == "error":
                found.append(str(event["params"]["args"]))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["source"] != "network":
                found.append(event["params"]["entry"]["text"])
        return found

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write what is seen as a PNG."""
        found = self.call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        self._browser.call("Target.closeTarget", {"targetId": self._target})


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are neither 3 nor 4."""
    ends = os.pipe()
    reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return reader, writer


def _environ(program: Path) -> dict[str, str]:
    """With the libraries and the fonts beside an unpacked browser; without a desktop's settings."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("DBUS_", "DISPLAY"))}
    root = program.parents[3] if program.name == PACKAGE and len(program.parents) > 3 else None
    if root is not None and (root / "usr").is_dir():
        environ["LD_LIBRARY_PATH"] = ":".join(str(root / folder) for folder in _LIBRARIES)
        fonts = root / "fonts.conf"
        if not fonts.exists():
            fonts.write_text(
                f"<fontconfig><dir>{root}/usr/share/fonts</dir><cachedir>{root}/fonts</cachedir></fontconfig>\n"
            )
        environ["FONTCONFIG_FILE"] = str(fonts)
    return environ

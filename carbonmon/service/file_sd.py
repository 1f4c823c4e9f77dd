"""Tells Prometheus where a monitor serves: one file for each, as its file_sd_configs reads them."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from carbonmon.core.files import replace_file

log = logging.getLogger(__name__)

_EVERYWHERE = ("0.0.0.0", "::")


def announce(folder: Path, places: Sequence[str]) -> Callable[[], None]:
    """Write a target for the first place that is a URL; returns what removes it again.

    A monitor that is killed leaves its file; the next one at the same address replaces it, and Prometheus
    shows the target as down meanwhile. A folder that cannot be written is logged: the job goes on.
    """
    url = next(
        (urlsplit(place.split()[0]) for place in places if place.startswith(("http://", "https://"))), None
    )
    if url is None or url.port is None or url.hostname is None:
        return lambda: None
    host = platform.node() if url.hostname in _EVERYWHERE else url.hostname
    shown = f"[{host}]" if ":" in host else host
    entry = {"targets": [f"{shown}:{url.port}"], "labels": {"__scheme__": url.scheme}}
    # Nodes may share the folder, and loopback addresses are the same on all of them.
    path = folder / f"carbonmon-{platform.node() or 'node'}-{url.port}.json"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        # Prometheus is another user, whatever the job's umask.
        replace_file(path, (json.dumps([entry], indent=2) + "\n").encode(), 0o644, for_others=True)
    except OSError as error:
        log.warning("--targets: %s cannot be written: %s", path, error.strerror or error)
        return lambda: None

    def remove() -> None:
        with suppress(OSError):
            path.unlink()

    return remove

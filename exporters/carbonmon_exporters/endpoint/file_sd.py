"""Tells Prometheus where a monitor serves: one file for each, as its file_sd_configs reads them."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from carbonmon.core.files import absolute, replace_file

log = logging.getLogger(__name__)

_EVERYWHERE = ("0.0.0.0", "::")


def announce(folder: Path, scheme: str, address: str, port: int) -> Path | None:
    """Write the target of a listening address; its file, None where there is none.

    A monitor that is killed leaves its file; the next one at the same address replaces it, and Prometheus
    shows the target as down meanwhile. A folder that cannot be written is logged: the job goes on.
    """
    host = os.uname().nodename if address in _EVERYWHERE else address
    shown = f"[{host}]" if ":" in host else host
    entry = {"targets": [f"{shown}:{port}"], "labels": {"__scheme__": scheme}}
    # Nodes may share the folder, and loopback addresses are the same on all of them.
    path = absolute(folder) / f"carbonmon-{os.uname().nodename or 'node'}-{port}.json"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
        # Prometheus is another user, whatever the job's umask.
        replace_file(path, (json.dumps([entry], indent=2) + "\n").encode(), 0o644, for_others=True)
    except OSError as error:
        log.warning("--targets: %s cannot be written: %s", path, error.strerror or error)
        return None
    return path

"""Starts the process that goes on serving ended runs: a new interpreter, with nothing of the job's.

It is executed and not forked: a fork of the monitor would hold its driver's files and its memory, and locks
that other threads held. It gets the listening socket, so that no scrape is refused in between, and begins
when this process has gone, so that the job's exit shares no CPU with it.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from carbonmon_exporters.ended import channel
from carbonmon_exporters.ended.bundle import Bundle

_log = logging.getLogger(__name__)


def start(listening: socket.socket, bundle: Bundle) -> bool:
    """Start it; False if it cannot be started, and then the ended runs are served no longer."""
    if os.getpid() == 1:
        _log.warning(
            "the end of the run may be missing in what scraped it: carbonmon is the first process of its "
            "container, which ends now; start it by a small init (docker run --init) in a container that "
            "lives on, or add the exporter textfile, pushgateway or otlp"
        )
        return False
    if not sys.executable:
        return False
    with ExitStack() as opened:
        try:
            ends_with_us, _ = os.pipe()  # the other end is closed with this process
            opened.callback(os.close, ends_with_us)
            data = os.memfd_create("carbonmon-ended")
            opened.callback(os.close, data)
            with open(data, "wb", closefd=False) as file:
                file.write(bundle.to_bytes())
            descriptors = [listening.fileno(), data]
            try:
                # It waits for the next monitor from now on, whenever the new process gets to it.
                descriptors.append(opened.enter_context(channel.listen(listening.getsockname()[:2])).fileno())
            except OSError as error:  # another one of ours is being served here: it can give its own away
                _log.debug("ended runs cannot be given to another monitor: %s", error)
            process = subprocess.Popen(
                [sys.executable, "-m", "carbonmon_exporters.ended", *map(str, descriptors)],
                stdin=ends_with_us,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_environ(),
                pass_fds=descriptors,
                start_new_session=True,
                umask=0o077,
            )
            process.returncode = 0  # nobody waits for it, and nobody is to be warned of that
        except (OSError, ValueError) as error:
            _log.warning("the end of the run is not served: no process can be started for it: %s", error)
            return False
    return True


def _environ() -> dict[str, str]:
    """The environment with this interpreter's own module path, wherever the new one is started."""
    places = [place for place in sys.path if Path(place).is_absolute()]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONSAFEPATH": "1"}

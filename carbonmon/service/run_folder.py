"""The folder of a new run: under the output, else where this machine lets us write.

A job is not kept from starting by a disk that is full or read-only, nor by a folder that we may not write
into: then the run is kept in `carbonmon-UID/runs` of the temporary folder, and a log line says so.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from carbonmon.client import places
from carbonmon.client.launcher import safe_id
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import RunInfo
from carbonmon.runs import folders

log = logging.getLogger(__name__)

MISTAKES = frozenset((errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, 0))
"""What a path says that can never be a folder, on no machine: `--output FILE/runs`."""


def create(
    output: Path,
    run_id: str | None,
    default_id: str,
    suffix: str = "",
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """As `folders.create`; raises `ConfigError` only for what is a mistake in the options.

    Where nothing can be written at all, the folder is not there yet: it is made when the disk is well again.
    """
    try:
        return folders.create(output, run_id, default_id, suffix)
    except folders.CannotWrite as error:
        if error.number in MISTAKES:
            raise
        try:
            folder = folders.create(_temporary_output(environ), None, run_id or default_id, suffix)
        except folders.CannotWrite:
            folder = output / f"{run_id or default_id}{suffix}"
        log.warning("%s; this run is kept in %s", error, folder)
        return folder


def check_name(folder: Path, info: RunInfo) -> None:
    """Raise `ConfigError` for a folder whose name is not that of the run in it: a copy of another folder."""
    if folder.name not in (info.id, f"{info.id}.{safe_id(info.host)}"):
        raise ConfigError(
            f"{folder}: it holds run {info.id!r:.70}, whose folder has another name: a copy? "
            "To go on with it, give the folder the name of the run"
        )


def _temporary_output(environ: Mapping[str, str]) -> Path:
    """A folder for runs that only we may read, not in $XDG_RUNTIME_DIR, which ends with the session.

    Raises `CannotWrite`.
    """
    others = {key: value for key, value in environ.items() if key != "XDG_RUNTIME_DIR"}
    try:
        return places.runtime_folder(others) / "runs"
    except ConfigError as error:
        raise folders.CannotWrite(str(error), 0) from None

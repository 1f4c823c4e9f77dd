"""A run's folder OUTPUT/RUN_ID: made once, never shared by two runs."""

from __future__ import annotations

from pathlib import Path

from carbonmon.errors import ConfigError


def create(output: Path, run_id: str | None, default_id: str) -> Path:
    """Make the folder of a new run: `run_id` as the user gave it, else `default_id` made unique.

    Raises `ConfigError` if the output cannot be written or the given id has a folder already.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        if run_id is None:
            return _make_unique(output, default_id)
        folder = output / run_id
        folder.mkdir()
    except FileExistsError:
        if run_id is None or not output.is_dir():
            raise ConfigError(f"--output: {output} is not a folder; give one: --output DIR") from None
        state = "has already finished" if (folder / "summary.json").exists() else "exists already"
        raise ConfigError(
            f"--run-id: {run_id!r} {state} in {output}; give another id, or remove {folder}"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"--output: {output} cannot be written ({error.strerror or error}); "
            "give a folder that can: --output DIR"
        ) from None
    return folder


def _make_unique(output: Path, default_id: str) -> Path:
    number = 1
    while True:
        folder = output / (default_id if number == 1 else f"{default_id}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder

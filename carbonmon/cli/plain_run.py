"""`carbonmon run` where the command line is plain: read without click, which would be a quarter of the start.

Plain are these options with right values, on the command line or in their variables, while no file sets any
and no other monitor may measure the job. All else, every mistake among it, is left to the command itself
(`run.py`), which reads the same words in the same way; a test compares the two.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from carbonmon.cli import from_text, printing
from carbonmon.cli.log import set_up_log
from carbonmon.cli.run_alone import run_alone, say_what_is_misplaced
from carbonmon.client.launcher import read_launch
from carbonmon.client.surrounding_run import monitor_sockets
from carbonmon.client.variables import CONFIG_NAME, OTHERS, PREFIX, config_file
from carbonmon.core import config
from carbonmon.core.config import Config
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import IDLE_POLICIES
from carbonmon.core.records import NamedTuple
from carbonmon.core.ways import OPTIONS


def _path(text: str) -> Path:
    if not text or (_exists(text) and not os.access(text, os.R_OK)):
        raise ConfigError("the path is empty, or may not be read")
    return Path(text)


def _exists(path: str) -> bool:
    """Whether it is there; False in a folder that may not be entered, where Path.exists raises."""
    return os.path.exists(path)  # noqa: PTH110


def _one_of(words: Sequence[str], text: str) -> str:
    if text not in words:
        raise ConfigError(f"{text} is none of {', '.join(words)}")
    return text


_READERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "region": ("region", str),
    "intensity": ("intensity_g_per_kwh", config.parse_intensity),
    "pue": ("pue", config.parse_pue),
    "interval": ("interval_s", from_text.interval),
    "checkpoint": ("checkpoint_s", from_text.checkpoint),
    "listen": ("listen", config.parse_listen),
    "output": ("output", _path),
    "run-id": ("run_id", config.parse_run_id),
    "name": ("name", str),
    "gpus": ("gpus", from_text.gpu_list),
    "gpu-model": ("gpu_model", str),
    "gpu-tdp": ("gpu_tdp_w", partial(from_text.watts, option="--gpu-tdp")),
    "cpu-model": ("cpu_model", str),
    "cpu-tdp": ("cpu_tdp_w", partial(from_text.watts, option="--cpu-tdp")),
    "idle": ("idle", partial(_one_of, IDLE_POLICIES)),
    "sysfs": ("sysfs", _path),
    "procfs": ("procfs", _path),
    "sensor": ("sensors", partial(config.parse_list, option="--sensor")),
    "node-meter": ("node_meters", partial(config.parse_list, option="--node-meter")),
    "exporter": ("exporters", partial(config.parse_list, option="--exporter")),
}
"""By the name of an option: the field of `Config`, and what reads its text."""

_FLAGS: Mapping[str, tuple[str, bool]] = {
    "quiet": ("quiet", True),
    "own-monitor": ("own_monitor", True),
    "redact-command": ("redact_command", True),
    "user-names": ("user_names", True),
    "no-dram-estimate": ("dram_estimate", False),
}


class Chosen(NamedTuple):
    """What the words behind `carbonmon run` and the environment say; `given` are the names of the options."""

    config: Config
    job: tuple[str, ...]
    given: set[str]


def run(words: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Run the job that the words behind `carbonmon run` name; its exit code.

    None where they are not plain, or one of them is a mistake. Raises `ConfigError` for a mistake that
    showed later. No job was started then.
    """
    if config_file(environ) or _exists(CONFIG_NAME):
        return None
    try:
        chosen = _plain(words, environ)
        if chosen is None or not (chosen.config.own_monitor or _is_alone(environ)):
            return None
        set_up_log()
        say_what_is_misplaced(chosen.job, chosen.config, chosen.given)
        return run_alone(chosen.config, chosen.job)
    except KeyboardInterrupt:  # before the job, which gets it from then on
        printing.echo("Aborted!", err=True)
        return 1


def _plain(words: Sequence[str], environ: Mapping[str, str]) -> Chosen | None:
    try:
        return plain_words(words, environ)
    except ConfigError:
        return None


def plain_words(words: Sequence[str], environ: Mapping[str, str]) -> Chosen | None:
    """Options and job, None where they are not plain; raises `ConfigError` for a mistake."""
    variables = {name: text for name, text in environ.items() if PREFIX in name}
    if any(name in OTHERS or not name.startswith(PREFIX) for name in variables):
        return None
    given: set[str] = set()
    fields: dict[str, Any] = {"retain_s": config.RUN_RETAIN_S}
    left = list(words)
    while left and left[0].startswith("--"):
        word = left.pop(0)
        if word == "--":
            break
        name, equals, text = word[2:].partition("=")
        if name in _FLAGS and not equals:
            field, fields[field] = _FLAGS[name]
        elif name in _READERS and (equals or (left and not left[0].startswith("-"))):
            field, read = _READERS[name]
            fields[field] = read(text if equals else left.pop(0))
        else:
            return None
        given.add(name)
    for name in OPTIONS.keys() - given if variables else ():
        told = variables.get(OPTIONS[name].variable)
        if told and name in _READERS:
            field, read = _READERS[name]
            fields[field] = read(told)
            given.add(name)
        elif told is not None:
            return None
    if not left or not left[0] or left[0].startswith("-") or {"region", "intensity"} <= given:
        return None
    return Chosen(Config(**fields), tuple(left), given)


def _is_alone(environ: Mapping[str, str]) -> bool:
    """Whether no other monitor may measure the job: none is here, and no other rank begins one."""
    return (read_launch(environ).local_size or 1) < 2 and not any(monitor_sockets(environ))

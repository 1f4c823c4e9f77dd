"""The messages of training code and commands to a monitor: one JSON object a line over a Unix socket.

Imported by the training process: standard library only, and little of it.

A request is `{"v": 1, "op": OP, …}`; with an `"id"` it is answered by a line with the same id and either
`"ok": true` and the result, or `"ok": false` and `"error"`, a text for people. A request without an id is
answered only if it was invalid; an id is a whole number or a text. Times are seconds of CLOCK_BOOTTIME, which
all processes of a node share. An answer with `"retry": true` means that the same request will soon be
accepted: the earlier run is about to end.

    join        take part in a run: `run_id` (None: the monitor's only one), `name`, `labels`, `command`,
                `rank`, `local_rank`, `local_size`, `wrapper` (a command of ours that wraps a job), `environ`
                (variables that allocate GPUs), `gpus`, `world_size`, `nodes`, `scheduler`,
                `scheduler_job_id`, `named` (whether `run_id` is a name of the user or the launcher, or only
                a key that the processes of one run share: the monitor may give that run another id), `key`
                (what the processes of one run on this node share, where `run_id` is not the user's choice),
                `default_id` (the id to give it where `run_id` is only a key),
                `helper` (it holds no run open, and is none of the ranks), `settings` (a checksum of what a
                monitor is started with: for a run with other ones it makes way).
                Answer: `run_id`, `folder`, `places`, `begun` (whether the run began with this message), its
                `name`, `labels`, `idle`, and `gpus` (whether it has a list of GPUs)
    settings    Answer: `settings`, the options that the monitor was started with as texts, by name
    find        whether the sender, or one of its parents, is a process of a run here. Answer: `run_id`
    job         `pid` of the process that a wrapper has started
    leave       leave the run: `exit_code`, `signal`. Answer: `last`, `notes` (texts: what was not counted),
                `totals` (as of snapshot), `windows` (those of this participant, by number), and for the last
                one `summary` and `goes_on` (the next run may begin over the same connection, soon)
    phase       `name` of the innermost phase that this participant is in, None for none; `at_s`;
                `begin`, `end` (numbers of windows of this participant that begin and end there) and
                `forget` (windows that it will not ask for)
    window      what the run drew in a window: `window`, its number. Answer: `window` with `energy_j`,
                `low_j`, `high_j`, `duration_s`, `is_interpolated`, `is_settled`; None of an unknown one
    run_phase   `name` of the phase of a run whose participants are in none; `run_id`
    progress    what is done since the begin of the training, of the whole job: `step`, `epoch`, `samples`,
                `tokens`, `flops`, at least one of them; `total` steps, the `precision` of the FLOPs; `age_s`,
                how long ago that was so
    stopping    whether training is to stop. Answer: `stop`, and `stop_at_step`, how many steps are to be done
                then (None: it knows of no steps)
    snapshot    Answer: `energy_j`, `emissions_g`, `power_w`, `duration_s`, `phase`, `forecast`, those of
                stopping, …
    register    follow a run without taking part in it: `run_id`, `name`, `labels`, `pid` or `cgroup`,
                `gpus`, `environ`, `uid` of its owner (root only). Answer as for join
    unregister  end such a run: `run_id`, `exit_code`
    status      Answer: `runs`, a list (those of the sender, all for root and the monitor's user), `places`,
                `version`, `daemon` (whether it takes runs until it is told to end), `since_s` (Unix time),
                `unit` (the service of systemd that it is, or None), `log` (the file of its stderr, or None),
                `sensors` with their `use` and `reason`
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

VERSION = 1
MAX_MESSAGE_BYTES = 1 << 16
MAX_ANSWER_BYTES = 1 << 19
"""A monitor with a thousand runs has a long status."""

SOCKET_VARIABLE = "CARBONMON_SOCKET"
"""The socket of the monitor of the run that a process is part of."""

RUN_VARIABLE = "CARBONMON_RUN"
"""The id of the run that a process is part of."""

SEEN_VARIABLE = "CARBONMON_RUN_ENVIRON"
"""A mark of the options in the environment of the command that began the run: it has taken or told them."""

BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The clock of times in messages: it never jumps, and all processes of a node share it."""

GPU_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"),
    *("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"),
    *("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("HABANA_VISIBLE_DEVICES", "HABANA_VISIBLE_MODULES"),
)
"""Variables that say which GPUs are allocated to a process, and how they are numbered."""


_ESCAPED_SURROGATE = rb"\\u[dD][89a-fA-F]"


class ProtocolError(Exception):
    """An invalid message; the text says why and can be shown to the sender.

    `request_id` is the id of the message, if it could be read.
    """

    def __init__(self, text: str, request_id: Any = None) -> None:
        super().__init__(text)
        self.request_id = request_id


def encode(message: dict[str, Any], most_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """A message as a line. Raises `ProtocolError` if it is too long or not valid in JSON."""
    try:
        line = json.dumps({"v": VERSION, **message}, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"the message cannot be sent: {error}") from None
    if len(line) > most_bytes:
        raise ProtocolError(f"the message has {len(line)} bytes, at most {most_bytes} can be sent")
    return line


def decode(line: bytes) -> dict[str, Any]:
    """The message of a line, whose texts can all be written as UTF-8; raises `ProtocolError`."""
    try:
        message = json.loads(line)
        if re.search(_ESCAPED_SURROGATE, line):  # JSON can hold half a character, which UTF-8 cannot encode
            message = json.loads(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise ProtocolError(f"not JSON: {line[:60]!r}") from None
    if not isinstance(message, dict):
        raise ProtocolError("a message must be a JSON object")
    if message.get("v") != VERSION:
        raise ProtocolError(
            f"version {message.get('v')!r:.40} is unknown; this carbonmon uses {VERSION}", message.get("id")
        )
    return message

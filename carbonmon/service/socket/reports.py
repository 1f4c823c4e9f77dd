"""Reads what training code says that it has done from a message of progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.core.work import Told, precision_of
from carbonmon.service.entries import Entry, Participant
from carbonmon.service.socket import fields
from carbonmon.service.socket.request import RequestError


def told(message: Mapping[str, Any], entry: Entry, participant: Participant) -> Told:
    """A report of a participant; raises `RequestError` for one without any count."""
    step, epochs, samples, tokens, flops = (
        fields.optional_amount(message, key) for key in ("step", "epoch", "samples", "tokens", "flops")
    )
    if step is epochs is samples is tokens is flops is None:
        raise RequestError("progress needs a step, or another count")
    precision = fields.optional_text(message, "precision", fields.MAX_NAME)
    return Told(
        *(step, fields.optional_amount(message, "total"), epochs, samples, tokens, flops),
        None if precision is None else precision_of(precision),
        _job_ratio(entry, participant),
        fields.optional_amount(message, "evaluation_every") or None,
        fields.optional_amount(message, "evaluation_steps"),
    )


def _job_ratio(entry: Entry, participant: Participant) -> float:
    """The part of the job's processes that is on this node, as far as the participant's launcher says."""
    size = None if participant.rank is None else participant.rank.world_size
    return min(1.0, max(entry.expected, len(entry.ranks)) / size) if size else 1.0

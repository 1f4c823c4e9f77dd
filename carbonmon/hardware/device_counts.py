"""Reads how many devices a text names beside their model; pure."""

from __future__ import annotations

import re

from carbonmon.core.errors import ConfigError

_COUNT_BEHIND = re.compile(r"(.*\S)(?:\s+[x×*]\s*|(?<=[0-9A-Za-z])[x×])([0-9]{1,7})")
_COUNT_IN_BRACKETS = re.compile(r"(.*\S)\s*\(\s*(?:[x×*]\s*([0-9]{1,7})|([0-9]{1,7})\s*[x×*])\s*\)")
_COUNT_BEFORE = re.compile(r"([0-9]{1,7})(?:\s*[x×*]\s*)(\S.*)")


def split_count(text: str) -> tuple[str, int | None]:
    """A name and the count beside it, None without one: `H100 x8`, `8x H100`, `H100×8`, `H100 (x8)`."""
    plain = " ".join(text.split())
    if hit := _COUNT_BEFORE.fullmatch(plain):
        return hit[2], int(hit[1])
    if hit := _COUNT_IN_BRACKETS.fullmatch(plain):
        return hit[1], int(hit[2] or hit[3])
    if hit := _COUNT_BEHIND.fullmatch(plain):
        return hit[1], int(hit[2])
    return plain, None


def parse_gpu_model(text: str) -> tuple[str, int]:
    """(name, count) of `--gpu-model NAME[:COUNT]`; raises `ConfigError` for a count that is none."""
    name, colon, count = text.partition(":")
    if not colon:
        name, number = split_count(text)
        count = "1" if number is None else str(number)
    name = " ".join(name.split())
    if not name or re.fullmatch(r"[1-9][0-9]{0,2}", count.strip()) is None:
        raise ConfigError(
            f"--gpu-model: {text!r:.80} is not NAME or NAME:COUNT with a count from 1 to 999; "
            "give for example 'A100 PCIe 80GB:4'"
        )
    return name, int(count)

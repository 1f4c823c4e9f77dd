"""Which tests one worker of pytest-xdist runs together, and which begin first."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

END_TO_END = "tests/e2e/"
TOGETHER = (
    f"{END_TO_END}test_slurm.py",
    f"{END_TO_END}test_slurm_runs.py",
    f"{END_TO_END}test_boards_over_time.py",
)
"""Modules of end-to-end tests that share something expensive: a Slurm, a scripted run of a minute."""


class BySharedMachine(LoadScopeScheduling):
    """A module stays on one worker: its tests compute, and share simulated machines and servers.

    End-to-end tests wait for processes of their own, with folders and ports of their own: each goes where a
    worker is free. Not xdist_group, whose names become part of what a failed test is called.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # not by their number of tests: see longest_first
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return nodeid if module.startswith(END_TO_END) and module not in TOGETHER else module


def longest_first(items: list[pytest.Item]) -> None:
    """Begin with tests that have a time limit of their own: no worker is left alone with one at the end."""

    def limit_s(item: pytest.Item) -> float:
        marker = item.get_closest_marker("timeout")
        return float(marker.args[0]) if marker else 0.0

    items.sort(key=limit_s, reverse=True)

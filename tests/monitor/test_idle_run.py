"""A run whose work ran somewhere else is recognised by what it did not do."""

from __future__ import annotations

from carbonmon.monitor.idle_run import idle_note
from tests.support.rows import for_each_row


@for_each_row(
    ("duration_s", "cpu_s", "node_busy_s", "is_said"),
    [
        (60.0, 0.02, 58.0, True),
        (60.0, 0.6, 31.0, True),
        (60.0, 0.7, 58.0, False),  # more than 1 % of a CPU
        (60.0, 0.02, 29.0, False),  # the node was idle too
        (4.9, 0.0, 10.0, False),  # too short to tell
        (60.0, None, 58.0, False),  # nobody counted
        (60.0, 0.0, None, False),
        (60.0, 55.0, 60.0, False),
    ],
)
def test_a_run_without_cpu_time_on_a_busy_node_is_said(
    duration_s: float, cpu_s: float | None, node_busy_s: float | None, is_said: bool
):
    assert bool(idle_note(duration_s, cpu_s, node_busy_s)) is is_said


def test_the_line_has_the_figures_that_it_is_based_on():
    note = idle_note(60.0, 0.021, 58.4)
    assert "0.021 s of CPU time in 60 s" in note
    assert "the node 58 s" in note

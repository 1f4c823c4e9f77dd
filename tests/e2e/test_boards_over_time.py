"""Each panel of power, energy and emissions at every step of a scripted run, beside the simulator's truth.

The run has phases of few scrapes, a monitor that is killed and started again, an outage of the stores, a
second run on the node, and a third one whose monitor stands beside the node's. The queries are those of the
boards, on a real Prometheus and a real VictoriaMetrics.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import prometheus, scripted_run
from tests.support.boards_over_time import Board, falls, misses, strays
from tests.support.panel_truth import (
    A_UNIT,
    ELSEWHERE,
    GRAMS,
    PER_INSTANCE,
    POWER,
    QUERIES,
    RATES,
    RECORDED,
    RISING,
    TOTALS,
    UNITS,
    WHOLE_MACHINE,
    factor,
    of_the_node,
)
from tests.support.scripted_run import FIRST, GRAMS_PER_J, Seen

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(400),
    pytest.mark.skipif(prometheus.binary() is None, reason="no Prometheus, and no apt-get to fetch it"),
]

every_store = pytest.mark.parametrize("store", ["prometheus", "victoria"])


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with scripted_run.played(tmp_path_factory.mktemp("boards"), 1.0) as played:
        yield played


def test_every_panel_of_an_amount_is_compared_here() -> None:
    elsewhere = ELSEWHERE | WHOLE_MACHINE | A_UNIT
    assert UNITS.keys() == POWER.keys() | TOTALS.keys() | RISING | PER_INSTANCE | elsewhere


def board_of(seen: Seen, store: str) -> Board:
    if store not in seen.stores:
        pytest.skip("no VictoriaMetrics, and no apt-get to fetch it")
    return Board(seen, store)


@every_store
def test_power_and_grams_an_hour_are_right_at_every_step(seen: Seen, store: str) -> None:
    board = board_of(seen, store)
    wrong = {}
    for key, truth in POWER.items():
        wrong[key] = misses(board, board.sums(QUERIES[key]), truth, factor(UNITS[key]))
    for key in PER_INSTANCE:
        shown = board.sums(QUERIES[key], seen.targets[0])
        wrong[key] = misses(board, shown, of_the_node, factor(UNITS[key]))
    for name, truth in RATES.items():
        scale = GRAMS_PER_J if "grams" in name else 1.0
        instance = seen.targets[0] if name.startswith("instance:") else None
        wrong["rule", name, ""] = misses(board, board.sums(name, instance), truth, scale)
    assert not [f"{key}: {found}" for key, found in wrong.items() if found]


@every_store
def test_totals_never_fall_and_are_the_truth(seen: Seen, store: str) -> None:
    board = board_of(seen, store)
    wrong = {}
    for key, unit in TOTALS.items():
        shown = board.sums(QUERIES[key])
        scale = GRAMS_PER_J if unit == GRAMS else 1.0
        wrong[key] = [*falls(shown), *strays(seen, shown, FIRST, scale)]
    for key in RISING | ELSEWHERE:
        wrong[key] = falls(board.sums(QUERIES[key]))
    for name in RECORDED:
        wrong["rule", name, ""] = falls(board.sums(name))
    total = board.sums(f'{RECORDED[0]} and on (run_id) label_replace(vector(1), "run_id", "{FIRST}", "", "")')
    wrong["rule", RECORDED[0], FIRST] = strays(seen, total, FIRST)
    assert not [f"{key}: {found}" for key, found in wrong.items() if found]

"""The short form of the chaos harness: every scenario once, and each must meet its targets."""

from __future__ import annotations

import random

import pytest

from tests.chaos.__main__ import PARTS
from tests.chaos.table import line
from tests.simulator import can_build

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not can_build(), reason="the simulated machine needs gcc"),
]

SEED = 7


@pytest.mark.parametrize("part", PARTS)
def test_whatever_fails_the_account_meets_its_targets(part: str):
    rows = list(PARTS[part](True, 0, random.Random(f"{SEED} {part}")))
    assert rows
    assert [line(row) for row in rows if not row.ok] == []

"""How much each user may use of the daemon's socket, and what is left for root whoever has the rest."""

from __future__ import annotations

import json
import os
import time

import pytest

from carbonmon.service.socket import users
from carbonmon.service.socket.users import User, Users, reserved

OTHER = 54321
MOST = 64


def why(answer: User | bytes) -> str:
    """The reason of a refusal, "" where there is none."""
    return str(json.loads(answer)["error"]) if isinstance(answer, bytes) else ""


@pytest.fixture
def everyone(monkeypatch: pytest.MonkeyPatch) -> Users:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return Users(everyone=True)


@pytest.mark.parametrize("accounts", [2, 3, 64])
def test_accounts_together_leave_places_for_root(everyone: Users, accounts: int):
    let_in = [everyone.enter(OTHER + i % accounts, MOST) for i in range(2 * MOST)]
    assert sum(isinstance(answer, User) for answer in let_in) == MOST - reserved(MOST)
    assert "the users of this node have all" in why(let_in[-1]) or "can have no more" in why(let_in[-1])
    assert [why(everyone.enter(0, MOST)) for _ in range(reserved(MOST))] == [""] * reserved(MOST)
    assert "this monitor has 64 connections" in why(everyone.enter(0, MOST))


def test_one_account_has_at_most_half_of_them(everyone: Users):
    assert [why(everyone.enter(OTHER, MOST)) for _ in range(MOST // 2)] == [""] * (MOST // 2)
    assert why(everyone.enter(OTHER, MOST)) == (
        "user 54321 has 32 connections to this monitor, and can have no more"
    )
    everyone.leave(OTHER)
    assert why(everyone.enter(OTHER, MOST)) == ""


@pytest.mark.parametrize("most", [1, 2, 8, 1024])
def test_something_is_kept_for_root_however_few_there_are(most: int):
    assert 1 <= reserved(most) <= max(1, most // 8)


def test_an_account_with_thousands_of_uids_does_not_fill_the_memory(
    everyone: Users, monkeypatch: pytest.MonkeyPatch
):
    """Those who hold a connection, or have just made many, are not forgotten."""
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    staying, busy = OTHER - 1, OTHER - 2
    everyone.enter(staying, MOST)
    for _ in range(int(users.CONNECTS_BURST)):
        everyone.enter(busy, MOST)
        everyone.leave(busy)
    for uid in range(OTHER, OTHER + 20_000):
        now_s += 0.0005
        everyone.enter(uid, MOST)
        everyone.leave(uid)
    assert len(everyone._users) <= users._REMEMBERED + 20
    assert why(everyone.enter(staying, 2)) == (
        "user 54320 has 1 connections to this monitor, and can have no more"
    )
    for _ in range(int(users.CONNECTS_HZ * now_s) + 1):
        everyone.enter(busy, MOST)
    assert "connections a second" in why(everyone.enter(busy, MOST))

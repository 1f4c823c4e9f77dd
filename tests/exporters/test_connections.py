"""Which connections stay open, and which one is closed when there are too many."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from carbonmon_exporters.endpoint.connections import OpenConnections


class Visitors:
    """Pairs of sockets: the server's end, and the client's, which tells whether it was cut."""

    def __init__(self) -> None:
        self.pairs: dict[str, tuple[socket.socket, socket.socket]] = {}

    def __getitem__(self, name: str) -> socket.socket:
        if name not in self.pairs:
            self.pairs[name] = socket.socketpair()
            self.pairs[name][1].setblocking(False)
        return self.pairs[name][0]

    def cut(self) -> set[str]:
        return {name for name, (_, client) in self.pairs.items() if _has_ended(client)}


def _has_ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.fixture
def visitors() -> Iterator[Visitors]:
    made = Visitors()
    yield made
    for pair in made.pairs.values():
        for end in pair:
            end.close()


def test_the_oldest_that_waits_makes_room(visitors: Visitors) -> None:
    connections = OpenConnections(3, 3)
    for name in "abcd":
        assert connections.add(visitors[name], "same")
    assert visitors.cut() == {"a"}
    assert not connections.begin_answer(visitors["a"])
    assert connections.begin_answer(visitors["b"])


def test_who_is_answered_keeps_his_place(visitors: Visitors) -> None:
    connections = OpenConnections(2, 2)
    for name in "ab":
        assert connections.add(visitors[name], "same")
        assert connections.begin_answer(visitors[name])
    assert not connections.add(visitors["c"], "same")
    assert visitors.cut() == set()
    connections.end_answer(visitors["b"])
    assert connections.add(visitors["c"], "same")
    assert visitors.cut() == {"b"}


def test_an_address_with_too_many_gives_up_its_own(visitors: Visitors) -> None:
    connections = OpenConnections(10, 2)
    assert connections.add(visitors["first"], "scraper")
    for name in "abcd":
        assert connections.add(visitors[name], "crowd")
    assert visitors.cut() == {"a", "b"}


def test_an_address_that_is_answered_to_its_limit_gets_no_more(visitors: Visitors) -> None:
    connections = OpenConnections(10, 1)
    assert connections.add(visitors["a"], "one")
    assert connections.begin_answer(visitors["a"])
    assert not connections.add(visitors["b"], "one")
    assert connections.add(visitors["c"], "other")


def test_a_crowd_makes_room_for_a_single_client_and_not_the_other_way_round(visitors: Visitors) -> None:
    connections = OpenConnections(4, 3)
    assert connections.add(visitors["scraper"], "scraper")
    for name in "abc":
        assert connections.add(visitors[name], "crowd")
    assert connections.add(visitors["new"], "new")
    assert visitors.cut() == {"a"}
    assert connections.add(visitors["newer"], "newer")
    assert visitors.cut() == {"a", "b"}


def test_who_leaves_makes_room(visitors: Visitors) -> None:
    connections = OpenConnections(1, 1)
    assert connections.add(visitors["a"], "a")
    connections.remove(visitors["a"])
    assert connections.add(visitors["b"], "b")
    assert visitors.cut() == set()


def test_clearing_cuts_everybody_in_the_end(visitors: Visitors) -> None:
    connections = OpenConnections(4, 4)
    for name in "ab":
        assert connections.add(visitors[name], "a")
    assert connections.begin_answer(visitors["b"])
    connections.close_all(0.05)
    assert visitors.cut() == {"a", "b"}

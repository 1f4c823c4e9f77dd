"""Passwords: right ones are checked once, wrong ones cost a bounded time, and nobody learns who is known."""

from __future__ import annotations

import base64
import threading
import time
from itertools import count

import bcrypt
import pytest
from carbonmon_exporters.endpoint.passwords import CPU_RATE, FAILURE_RATE, Passwords, TooManyAttemptsError
from carbonmon_exporters.endpoint.rate_limits import TokenBuckets, client_key
from carbonmon_exporters.endpoint.settings import Rate

from tests.support.metrics_endpoint import PASSWORD, hashed

USERS = {b"anna": hashed().encode()}


def header(user: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Checks:
    """Counts the checks that bcrypt makes, with the cost of each, by the CPU_RATE time that is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.costs: list[int] = []
        real = bcrypt.checkpw

        def counted(password: bytes, hashed_password: bytes) -> bool:
            self.costs.append(int(hashed_password[4:6]))
            return real(password, hashed_password)

        monkeypatch.setattr(bcrypt, "checkpw", counted)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    return Checks(monkeypatch)


def test_a_right_password_is_checked_once(checks: Checks) -> None:
    passwords = Passwords()
    assert all(passwords.check(USERS, header("anna"), f"10.0.0.{host}") for host in range(20))
    assert len(checks.costs) == 1


def test_a_wrong_password_is_checked_each_time(checks: Checks) -> None:
    passwords = Passwords()
    assert not any(passwords.check(USERS, header("anna", "wrong"), "a") for _ in range(3))
    assert len(checks.costs) == 3


def test_what_is_remembered_ends_with_the_hash_that_it_was_checked_against(checks: Checks) -> None:
    passwords = Passwords()
    assert passwords.check(USERS, header("anna"), "a")
    assert not passwords.check({b"anna": hashed("new").encode()}, header("anna"), "a")
    assert not passwords.check({b"bob": hashed().encode()}, header("anna"), "a")
    assert len(checks.costs) == 3


def test_the_memory_of_right_passwords_is_bounded(checks: Checks) -> None:
    users = {f"user-{number}".encode(): hashed().encode() for number in range(5)}
    passwords = Passwords(max_cached=3)
    for number in (0, 1, 2, 0, 3, 0, 4, 0):
        assert passwords.check(users, header(f"user-{number}"), "a")
    assert len(checks.costs) == 5  # user-0, used all the time, was never forgotten
    assert passwords.check(users, header("user-1"), "a")
    assert len(checks.costs) == 6


def test_name_and_password_are_not_run_together(checks: Checks) -> None:
    """Two users may have one hash, copied: what is known of the one must not open for the other."""
    stored = hashed("bc").encode()
    users = {b"a": stored, b"ab": stored}
    passwords = Passwords()
    assert passwords.check(users, header("a", "bc"), "x")
    assert not passwords.check(users, header("ab", "c"), "x")


def test_an_unknown_user_costs_what_some_known_one_costs(checks: Checks) -> None:
    users = {b"anna": hashed(cost=4).encode(), b"bob": hashed(cost=5).encode()}
    passwords = Passwords(clock=count(0.0, 1000.0).__next__)
    for number in range(40):
        assert not passwords.check(users, header(f"nobody-{number}"), "a")
    assert set(checks.costs) == {4, 5}
    checks.costs.clear()
    for _ in range(10):
        assert not passwords.check(users, header("nobody-1"), "a")
    assert len(set(checks.costs)) == 1, "for one name it is always the same time"


def test_a_decoy_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if its password were found."""
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: True)
    assert not Passwords().check(USERS, header("nobody"), "a")
    assert Passwords().check(USERS, header("anna"), "a")


def test_a_long_password_is_checked_by_what_bcrypt_knows_of_it() -> None:
    users = {b"anna": bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))}
    assert Passwords().check(users, header("anna", "x" * 100), "a")
    assert not Passwords().check(users, header("anna", "x" * 71), "a")


def test_each_address_has_its_own_failures() -> None:
    now_s = 0.0
    passwords = Passwords(clock=lambda: now_s, cpu_clock=lambda: 0.0)
    for _ in range(int(FAILURE_RATE.burst)):
        assert not passwords.check(USERS, header("anna", "wrong"), "10.0.0.1")
    with pytest.raises(TooManyAttemptsError) as error:
        passwords.check(USERS, header("anna", "wrong"), "10.0.0.1")
    assert error.value.wait_s == pytest.approx(1 / FAILURE_RATE.per_s)
    with pytest.raises(TooManyAttemptsError):
        passwords.check(USERS, header("anna"), "10.0.0.1")  # also the right one, if it is new here
    assert passwords.check(USERS, header("anna"), "10.0.0.2")
    assert passwords.check(USERS, header("anna"), "10.0.0.1")  # now it is known
    now_s += error.value.wait_s
    assert not passwords.check(USERS, header("anna", "wrong"), "10.0.0.1")


def test_wrong_passwords_of_everybody_cost_a_bounded_time() -> None:
    now_s, spent_s = 0.0, 0.0

    def cpu_clock() -> float:
        nonlocal spent_s
        spent_s += 0.25  # twice for each check: one costs 0.25 s
        return spent_s

    passwords = Passwords(clock=lambda: now_s, cpu_clock=cpu_clock)
    with pytest.raises(TooManyAttemptsError) as error:
        for host in range(1000):
            passwords.check(USERS, header("anna", "wrong"), f"10.0.0.{host}")
    assert host * 0.25 == CPU_RATE.burst + 0.25  # one more than there was time for
    now_s += error.value.wait_s
    assert not passwords.check(USERS, header("anna", "wrong"), "10.0.1.1")
    with pytest.raises(TooManyAttemptsError) as error:
        passwords.check(USERS, header("anna", "wrong"), "10.0.1.2")
    assert error.value.wait_s == pytest.approx(0.25 / CPU_RATE.per_s, rel=0.01)


def test_many_at_once_with_a_new_right_password_are_let_in_by_one_check(checks: Checks) -> None:
    passwords = Passwords()
    found: list[bool] = []
    barrier = threading.Barrier(16)

    def ask() -> None:
        barrier.wait()
        found.append(passwords.check(USERS, header("anna"), "a"))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 16
    assert len(checks.costs) == 1


def test_other_threads_run_while_a_password_is_checked() -> None:
    """bcrypt lets go of Python's lock: else a check of 60 ms would delay a sample by as much."""
    users = {b"anna": hashed(cost=11).encode()}
    steps = 0
    done = threading.Event()

    def check() -> None:
        Passwords().check(users, header("anna", "wrong"), "a")
        done.set()

    thread = threading.Thread(target=check)
    thread.start()
    while not done.is_set():
        time.sleep(0.001)
        steps += 1
    thread.join()
    assert steps >= 10


# Whom limits tell apart


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::1", "::2", False),
    ],
)
def test_addresses_of_one_network_of_64_bits_are_one_client(one: str, other: str, is_same: bool) -> None:
    assert (client_key(one) == client_key(other)) is is_same


def test_a_bucket_fills_up_at_its_rate_and_no_further_than_its_burst() -> None:
    now_s = 0.0
    buckets, rate = TokenBuckets(lambda: now_s), Rate(2.0, 3.0)
    assert [buckets.take("a", rate) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    now_s = 0.5
    assert buckets.take("a", rate) == 0.0
    now_s = 1000.0
    assert [buckets.take("a", rate) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("b", rate) == 0.0


def test_a_debt_is_waited_for() -> None:
    now_s = 0.0
    buckets, rate = TokenBuckets(lambda: now_s), Rate(0.1, 2.0)
    buckets.spend("", rate, 3.0)
    assert buckets.wait_s("", rate, 0.0) == pytest.approx(10.0)
    now_s = 10.0
    assert buckets.wait_s("", rate, 0.0) == 0.0


def test_the_number_of_buckets_is_bounded_and_the_busy_ones_stay() -> None:
    buckets, rate = TokenBuckets(lambda: 0.0, max_keys=10), Rate(1.0, 1.0)
    assert buckets.take("busy", rate) == 0.0
    for key in range(1000):
        assert buckets.take(key, rate) == 0.0
        assert buckets.take("busy", rate) > 0.0

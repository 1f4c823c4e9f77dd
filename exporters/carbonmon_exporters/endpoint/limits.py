"""Token buckets by the address of a client: how often somebody may ask, and how soon again."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from carbonmon_exporters.endpoint.terms import Rate

MAX_KEYS = 1024
"""So many clients are told apart; of more, those that were not seen for longest begin anew."""


def origin(host: str) -> str:
    """Whom an address stands for: an IPv4 address itself, an IPv6 one its network of 64 bits.

    One client has a whole such network to send from (RFC 6177), so each address of it is no stranger.
    """
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return "::1" if address.is_loopback else f"{address.packed[:8].hex()}/64"


class Buckets:
    """A bucket for each key, of one rate; bounded in number."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: Hashable, rate: Rate) -> float:
        """Take one token: 0.0; else the seconds until there is one, and nothing is taken."""
        return self._settle(key, rate, 1.0, 1.0)

    def wait_s(self, key: Hashable, rate: Rate, least: float) -> float:
        """Seconds until the level is at `least`; 0.0 if it is."""
        return self._settle(key, rate, 0.0, least)

    def spend(self, key: Hashable, rate: Rate, amount: float) -> None:
        """Take tokens that were used up already, also if they are not there: the debt is waited for."""
        self._settle(key, rate, amount, -math.inf)

    def _settle(self, key: Hashable, rate: Rate, amount: float, least: float) -> float:
        if math.isinf(rate.per_s):
            return 0.0
        with self._lock:
            now_s = self._clock()
            level, at_s = self._levels.get(key, (rate.burst, now_s))
            level = min(rate.burst, level + (now_s - at_s) * rate.per_s)
            is_enough = level >= least
            self._levels[key] = (level - amount if is_enough else level), now_s
            self._levels.move_to_end(key)
            if len(self._levels) > self._max_keys:
                self._levels.popitem(last=False)
            return 0.0 if is_enough else (least - level) / rate.per_s

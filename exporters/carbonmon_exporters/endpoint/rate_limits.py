"""Token buckets, one for each client: how often it may ask, and after how many seconds again."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from carbonmon_exporters.endpoint.settings import Rate

MAX_KEYS = 1024
"""So many buckets are kept; beyond that, the least recently used are dropped and start full again."""


def client_key(host: str) -> str:
    """The client that an address belongs to: an IPv4 address itself, of an IPv6 one its /64 network.

    One client has a whole such network to send from (RFC 6177), so all its addresses count as one client.
    """
    if ":" not in host:
        return host
    from ipaddress import IPv6Address

    address = IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return "::1" if address.is_loopback else f"{address.packed[:8].hex()}/64"


class TokenBuckets:
    """A bucket for each key, of one rate; bounded in number."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: Hashable, rate: Rate) -> float:
        """Take one token: 0.0; else the seconds until there is one, and nothing is taken."""
        return self._update(key, rate, 1.0, 1.0)

    def wait_s(self, key: Hashable, rate: Rate, least: float) -> float:
        """Seconds until the level is at `least`; 0.0 if it is."""
        return self._update(key, rate, 0.0, least)

    def spend(self, key: Hashable, rate: Rate, amount: float) -> None:
        """Take tokens for what was used already; the level may become negative."""
        self._update(key, rate, amount, -math.inf)

    def _update(self, key: Hashable, rate: Rate, amount: float, least: float) -> float:
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

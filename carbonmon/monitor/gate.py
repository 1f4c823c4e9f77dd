"""Lets plausible quantities of a reading through; what is rejected is counted and logged once per change."""

from __future__ import annotations

import logging

from carbonmon.core.model import Reading
from carbonmon.core.plausibility import Rejected, check
from carbonmon.monitor.device_account import DeviceAccount

log = logging.getLogger(__name__)


class Gate:
    """For the sampling thread. `rejecting` is which quantities of which device are being rejected."""

    __slots__ = ("rejecting",)

    def __init__(self) -> None:
        self.rejecting: dict[str, frozenset[str]] = {}

    def passed(self, account: DeviceAccount, reading: Reading) -> Reading:
        """The reading with what is not plausible made unknown."""
        reading, rejected = check(account.device, reading)
        if rejected or account.device.id in self.rejecting:
            account.implausible += len(rejected)
            self._log_changes(account.device.id, rejected)
        return reading

    def _log_changes(self, device_id: str, rejected: tuple[Rejected, ...]) -> None:
        known = self.rejecting.pop(device_id, frozenset())
        now = frozenset(each.quantity for each in rejected)
        for each in rejected:
            if each.quantity not in known:
                log.warning(
                    "%s: %s %g is not plausible (expected %s): it is not counted, the next method stands in",
                    device_id,
                    each.quantity,
                    each.value,
                    each.expected,
                )
        for quantity in sorted(known - now):
            log.warning("%s: %s is plausible again", device_id, quantity)
        if now:
            self.rejecting[device_id] = now

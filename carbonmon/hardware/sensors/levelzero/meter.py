"""Reads one card's energy: of its card domain, else of its packages together, never of a tile."""

from __future__ import annotations

from collections.abc import Sequence

from carbonmon.core.model import Device, Failure, Reading
from carbonmon.core.pacing import Backoff
from carbonmon.hardware.sensors.levelzero import sysman
from carbonmon.hardware.sensors.levelzero.sysman import Domain, Sysman, SysmanError

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
"""A card that cannot be read is tried again after a second, then ever more seldom."""

STILL_S = 5.0
"""A counter whose own time stands still for so long is not renewed: its energy is an old value."""

_NOT_READ = 2**64 - 1


class CardMeter:
    """One card and the domains that are its energy together."""

    def __init__(self, device: Device, address: str, domains: Sequence[Domain]) -> None:
        self.device = device
        self.address = address
        self.domains = domains
        self.is_gone = False
        self.failure = ("", "")
        self.retry = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        self._stamps: tuple[int, ...] = ()
        self._renewed_s = float("-inf")

    def read(self, library: Sysman, now_s: float) -> Reading | Failure:
        """The card's energy; a failure where one of its domains does not tell its own."""
        try:
            counters = [library.energy(domain.handle) for domain in self.domains]
        except SysmanError as error:
            self.is_gone = True
            return self.fail(error.reason, str(error), now_s)
        if any(energy_uj == _NOT_READ for energy_uj, _ in counters):
            return Failure(self.device.id, "garbage", f"{_NOT_READ} stands for an energy that is not there")
        stamps = tuple([stamp for _, stamp in counters])
        if stamps != self._stamps or not any(stamps):  # without a time of its own there is nothing to tell by
            self._stamps, self._renewed_s = stamps, now_s
        if now_s - self._renewed_s >= STILL_S:
            text = f"its counter has not been renewed for {now_s - self._renewed_s:.0f} s, by its own time"
            return Failure(self.device.id, "still", text)
        self.failure = ("", "")
        self.retry.reset()
        return Reading(self.device.id, sum(energy_uj for energy_uj, _ in counters))

    def fail(self, reason: str, detail: str, now_s: float) -> Failure:
        """It cannot be read now, and is tried again later."""
        self.failure = reason, detail
        self.retry.schedule(now_s)
        return Failure(self.device.id, reason, detail)


def whole_card(domains: Sequence[Domain], library: Sysman) -> tuple[list[Domain], str]:
    """The domains that are a card's energy together, and what they are called; raises `SysmanError` of the
    best one where none can be read. None of them where all are of tiles or of parts of the card, or 0."""
    own = [domain for domain in domains if not domain.is_of_tile]
    unknown = [domain for domain in own if domain.kind == sysman.UNKNOWN]
    choices = [
        ([domain for domain in own if domain.kind == sysman.CARD][:1], "card"),
        ([domain for domain in own if domain.kind == sysman.PACKAGE], "package"),
        (unknown if len(own) == 1 else [], "only"),  # older drivers do not say what it is
    ]
    first: SysmanError | None = None
    for choice, name in choices:
        try:
            energies_uj = [library.energy(domain.handle)[0] for domain in choice]
        except SysmanError as error:
            first = first or error
            continue
        # One that is 0 does not count: DG1's was 0 for ever (intel/compute-runtime, issue 493).
        if choice and all(energies_uj):
            return choice, f"{len(choice)} {name} domains" if len(choice) > 1 else f"{name} domain"
    if first is not None:
        raise first
    return [], ""

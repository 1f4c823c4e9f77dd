"""Goes on with what an earlier monitor left: its devices' totals and meters, its runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from carbonmon.core.model import RunState, Snapshot
from carbonmon.core.ports import Clock, Roots
from carbonmon.core.records import NamedTuple
from carbonmon.monitor.device_account import DeviceAccount
from carbonmon.monitor.run_account import RunAccount
from carbonmon.monitor.sampler import Sampler

if TYPE_CHECKING:
    from carbonmon.runs.reader import Checkpoint

log = logging.getLogger(__name__)


class Outage(NamedTuple):
    """How long nobody metered, and whether the hardware's counters are those of before and span it."""

    duration_s: float
    same_boot: bool


def outage_of(before: Checkpoint, boot_id: str, clock: Clock) -> Outage:
    """The time since a run's last checkpoint, as far as it is the run's own."""
    last = before.snapshot
    if last.runs[0].ended_at_s is not None:
        return Outage(0.0, False)  # the run had ended: what was drawn since then is not its own
    if boot_id and boot_id == before.boot_id:
        return Outage(max(0.0, clock.now_s() - last.clock_s), True)
    return Outage(max(0.0, clock.wall_s() - last.at_s), False)


def resume_run(
    sampler: Sampler, run: RunAccount, before: Snapshot, outage: Outage, roots: Roots | None = None
) -> None:
    """Go on with the only run of an earlier monitor, and with its devices. Before any sample."""
    lost = restore_devices(sampler, before, outage)
    restore_run(sampler, run, before.runs[0], outage, lost, roots)


def restore_devices(sampler: Sampler, before: Snapshot, outage: Outage) -> list[str]:
    """Go on with the devices of an earlier monitor; returns the ids of those whose outage nobody can know.

    On the same boot each counter is compared with its last value, as after any silence: what it
    grew meanwhile is credited exactly and called recovered, unless a reset or a hidden wrap forbids
    it. After another boot no counter knows anything, and the outage is unobserved.
    """
    meters = dict(before.meters)
    lost = []
    if outage.same_boot:
        sampler.runs.attribution.rewind(before.clock_s, sampler.accounts)
    for old in before.devices:
        device_id = old.device.id
        account = sampler.accounts.get(device_id)
        if account is None:
            log.warning("%s of the run's earlier part is not here any more", device_id)
            if not outage.same_boot:
                lost.append(device_id)
                continue
            # It fell silent, as a device does that is lost while we watch; its counter may come back.
            account = sampler.accounts[device_id] = DeviceAccount(old.device)
        account.restore(old)
        meter = meters.get(device_id)
        if outage.same_boot and meter is not None:
            sampler.go_on_from(account, meter)
        else:
            account.unobserved_s += outage.duration_s
            if not outage.same_boot:  # else its first reading tells the runs that nothing was read until then
                lost.append(device_id)
    sampler.node_meters.restore(before.node_meters, meters if outage.same_boot else None, outage.duration_s)
    sampler.count_on_from(before.samples, before.start_s if outage.same_boot else None)
    return lost


def restore_run(
    sampler: Sampler,
    run: RunAccount,
    before: RunState,
    outage: Outage,
    lost: Sequence[str],
    roots: Roots | None = None,
) -> None:
    """Go on with one run, once the devices are restored; `lost` are those whose outage nobody can know."""
    run.restore(before, sampler.clock.now_s(), outage.duration_s, outage.same_boot)
    for device_id in lost:
        run.lose(device_id, outage.duration_s)
    if not outage.same_boot:
        lost_meters = tuple(each.lost(outage.duration_s) for each in before.node_meters)
        before = before._replace(node_meters=lost_meters)
    run.restore_meanwhile(before, sampler.node_totals())
    if outage.same_boot:
        for device_id, account in sampler.accounts.items():
            meter = account.meter
            if meter is not None and meter.open_s and run.uses(device_id):
                run.span.wait(device_id, max(0.0, min(meter.open_s, meter.settled_s - run.span.from_s)))
    sampler.runs.resume(run, roots, before, outage.same_boot)
    sampler.show()

"""Whose joules: splits a device's interval between the run and what stays unattributed; pure.

The parts add up to the whole exactly: the unattributed part is what is left after the run's.
"""

from __future__ import annotations

from carbonmon.model import Device, Interval


def attribute(interval: Interval, device: Device) -> Interval:
    """The run's part of an interval: the share of the device that the run owns, by every method.

    The share is 1 for a device that the run has to itself. For a MIG instance, whose energy NVML
    reports only for the whole GPU, it is the instance's share of the GPU's slices.
    """
    ratio = device.share_ratio
    if ratio == 1.0:
        return interval
    return interval._replace(
        counter_j=interval.counter_j * ratio,
        power_j=interval.power_j * ratio,
        tdp_j=interval.tdp_j * ratio,
        power_w=None if interval.power_w is None else interval.power_w * ratio,
    )

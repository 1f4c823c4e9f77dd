"""`carbonmon doctor`: every source with used or not used, the reason, and the command that mends it."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import ExitStack
from typing import Any

import click

from carbonmon import __version__
from carbonmon.cli import given, options, printing, progress, terminal
from carbonmon.core.errors import ConfigError
from carbonmon.core.model import Device, Intensity
from carbonmon.core.ports import IntensityProvider
from carbonmon.core.scope import contents_text
from carbonmon.monitor.clock import SystemClock
from carbonmon.runs.summary.strings import device_text
from carbonmon.service.open_grid import open_provider
from carbonmon.service.open_node_meters import asked as node_asked
from carbonmon.service.open_node_meters import open_node_meters
from carbonmon.service.open_sensors import open_sensors

LIVE_TIMEOUT_S = 12.0
"""How long a live source is waited for: a little longer than a request may take."""


@click.command("doctor")
@options.with_options(*options.DOCTOR_OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(as_json: bool, **values: Any) -> None:
    """List every power source: in use, or why not and how to fix it."""
    config = options.to_config(values)
    try:
        with ExitStack() as closing, progress.working("looking at the sources"):
            sensors = open_sensors(config, dict(os.environ), closing)
            node_meters = open_node_meters(config, closing)
            states = (*node_asked(node_meters.readers, SystemClock()), *node_meters.unused)
            provider = open_provider(config)
            closing.callback(provider.close)
            intensity = _asked(provider, sum(name != "table" for name in config.grid))
            errors = provider.fetch_errors()
    except ConfigError as error:
        choices = options.choices(click.get_current_context(), config)
        raise click.UsageError(given.with_source(choices, str(error))) from None
    sources = (*sensors.sources, *states)
    if as_json:
        document = {
            "schema": "carbonmon.doctor/1",
            "version": __version__,
            "sources": [
                {
                    "source": source.name,
                    "state": source.use,
                    "reason": source.reason,
                    "remedy": source.remedy or None,
                }
                for source in sources
            ],
            "devices": [
                {
                    "id": device.id,
                    "component": device.component,
                    "name": device.name,
                    "methods": list(device.methods),
                    "tdp_w": device.spec.tdp_w if device.spec is not None else None,
                    "contains": [part._asdict() for part in device.contains],
                }
                for device in sensors.devices.values()
            ],
            "intensity": {
                "g_per_kwh": intensity.g_per_kwh,
                "zone": intensity.zone or None,
                "source": intensity.source,
                "kind": intensity.kind,
                "basis": intensity.basis,
                "year": intensity.year,
                "note": intensity.note or None,
                "errors": [{"source": name, "reason": reason} for name, reason, _ in errors],
            },
        }
        printing.show_document(printing.json_text(document))
        return
    rows = [("SOURCE", "STATE", "REASON")]
    for source in sources:
        rows.append((source.name, source.use, source.reason))
        if source.remedy:
            rows.append(("", "mend it:", source.remedy))
    printing.show_table(rows, wraps=2)
    printing.echo()
    _show_devices(sensors.devices.values())
    printing.echo()
    note = f"; {intensity.note}" if intensity.note else ""
    printing.echo(
        f"INTENSITY {intensity.g_per_kwh:.5g} gCO2e/kWh, {intensity.kind}: {intensity.source}{note}"
    )
    for name, reason, _ in errors:
        printing.echo(f"  {name} has no useful answer: {reason}")


def _show_devices(devices: Collection[Device]) -> None:
    """Each device with its methods, best first."""
    is_short = terminal.width() is not None
    ids = {device.id: device_text(device.id, device.index, is_short=is_short) for device in devices}
    rows = [
        (device.component, ids[device.id], device.name, " → ".join(device.methods) or "nothing")
        for device in devices
    ]
    if rows:
        printing.show_table([("DEVICE", "ID", "NAME", "METHODS, BEST FIRST"), *rows], cuts=2)
    else:
        printing.echo("DEVICE: none; nothing can be metered or estimated here")
    for device in devices:
        if device.contains:
            printing.echo(f"  {ids[device.id]} contains: {contents_text(device)}")


def _asked(provider: IntensityProvider, sources: int) -> Intensity:
    """What is in force; live sources are waited for until one has answered or each has failed."""
    deadline_s = time.monotonic() + LIVE_TIMEOUT_S * sources
    while True:
        intensity = provider.intensity_at(time.time())
        failed = {source for source, _, _ in provider.fetch_errors()}
        is_told = intensity.kind != "table" or len(failed) >= sources
        if is_told or time.monotonic() >= deadline_s:
            return intensity
        time.sleep(0.05)

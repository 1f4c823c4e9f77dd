"""A summary as a short table for people: what `carbonmon run` prints to stderr at the end."""

from __future__ import annotations

from typing import Any

from carbonmon_exporters.strings import one_line

WIDTH = 100

_ENERGY_UNITS = ((3.6e9, "MWh"), (3.6e6, "kWh"), (3.6e4, "Wh"), (1e3, "kJ"), (0.0, "J"))
_JOULES = {"MWh": 3.6e9, "kWh": 3.6e6, "Wh": 3.6e3, "kJ": 1e3, "J": 1.0}
_MASS_UNITS = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-12, "mg"), (0.0, "g"))
_GRAMS = {"t": 1e6, "kg": 1e3, "g": 1.0, "mg": 1e-3}
_MEASURED = ("counter", "power")


def table_text(summary: dict[str, Any]) -> str:
    """Return the table, ending in a newline, in lines of at most about 100 characters.

    What is estimated is called so in words. All energies share the total's unit, so that they compare.
    """
    run, energy = summary["run"], summary["energy"]
    lines = [_title(run, summary["state"]), _energy_line(energy), *_carbon_lines(summary["carbon"])]
    lines += _device_lines(energy["devices"], _unit(energy["total_j"], _ENERGY_UNITS))
    lines += _remarks(energy["devices"])
    return "\n".join(line.rstrip() for line in lines) + "\n"


def energy_text(joules: float) -> str:
    """Joules in the unit that suits their size."""
    unit = _unit(joules, _ENERGY_UNITS)
    return f"{_figure(joules / _JOULES[unit])} {unit}"


def mass_text(grams: float) -> str:
    """Grams in the unit that suits their size."""
    unit = _unit(grams, _MASS_UNITS)
    return f"{_figure(grams / _GRAMS[unit])} {unit}"


def duration_text(seconds: float) -> str:
    """Seconds as a person would say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def percent_text(ratio: float) -> str:
    """A ratio as a percentage that never rounds a part to all or to nothing."""
    if 0 < ratio < 0.001:
        return "<0.1 %"
    if 0.999 < ratio < 1:
        return ">99.9 %"
    return f"{100 * ratio:.1f} %"


def _title(run: dict[str, Any], state: str) -> str:
    name = "" if run["name"] in ("", run["id"]) else f" ({one_line(run['name'], 30)})"
    duration = "" if run["duration_s"] is None else f", {duration_text(run['duration_s'])}"
    remark = {"running": ", still running", "recovered": ", recovered"}.get(state, "")
    return f"carbonmon: run {one_line(run['id'], 64)}{name}{duration}{remark}"


def _energy_line(energy: dict[str, Any]) -> str:
    total_j, measured = energy["total_j"], energy["measured_ratio"]
    unit = _unit(total_j, _ENERGY_UNITS)
    span = _range_text(energy["low_j"], energy["high_j"], _JOULES[unit])
    if measured is None:
        share = "no energy was seen"
    elif measured == 1:
        share = "all of it measured"
    elif measured == 0:
        share = "all of it estimated (tdp)"
    else:
        share = f"{percent_text(measured)} measured, {percent_text(1 - measured)} estimated (tdp)"
    return f"  energy     {_figure(total_j / _JOULES[unit])} {unit} ({span}), {share}"


def _carbon_lines(carbon: dict[str, Any]) -> list[str]:
    grams, now = carbon["emissions_g"], carbon["intensity"]
    unit = _unit(grams, _MASS_UNITS)
    span = _range_text(carbon["low_g"], carbon["high_g"], _GRAMS[unit])
    mean = now["mean_g_per_kwh"]
    facts = [now["zone"], now["source"], now["kind"], now["year"], now["basis"]]
    origin = ", ".join(str(fact) for fact in facts if fact)
    figure = "unknown" if mean is None else f"{_figure(mean)} g CO2e/kWh"
    total = f"{_figure(grams / _GRAMS[unit])} {unit} CO2e"
    return [
        f"  emissions  {total} ({span}), PUE {carbon['pue']:.2f} included",
        one_line(f"  intensity  {figure}: {origin}", WIDTH),
    ]


def _device_lines(devices: list[dict[str, Any]], unit: str) -> list[str]:
    rows = []
    for device in devices:
        mean_w = device["mean_power_w"]
        rows.append(
            (
                device["component"],
                _short_id(device["id"]),
                device["name"] or "",
                f"{_figure(device['energy_j'] / _JOULES[unit])} {unit}",
                "power unknown" if mean_w is None else f"mean {_figure(mean_w)} W",
                _methods_text(device["methods"]),
            )
        )
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(6)]
    free = WIDTH - 2 - 2 * 5 - (sum(widths) - widths[2])
    widths[2] = max(12, min(widths[2], free))
    return [
        f"  {part:{widths[0]}}  {ident:{widths[1]}}  {one_line(name, widths[2]):{widths[2]}}"
        f"  {joules:>{widths[3]}}  {watts:>{widths[4]}}  {methods}"
        for part, ident, name, joules, watts, methods in rows
    ]


def _short_id(device_id: str) -> str:
    """A GPU's UUID by its first group, as nvidia-smi users know it; other ids whole."""
    return one_line(device_id[:12] if device_id.startswith(("GPU-", "MIG-")) else device_id, 18)


def _methods_text(methods: dict[str, float]) -> str:
    """How a device's energy was known; nothing estimated goes without the word."""
    used = {method: joules for method, joules in methods.items() if joules}
    total_j = sum(used.values())
    parts = []
    for word, is_measured in (("measured", True), ("estimated", False)):
        of_word = {method: joules for method, joules in used.items() if (method in _MEASURED) is is_measured}
        if of_word:
            parts.append((sum(of_word.values()) / total_j, f"{word} ({', '.join(of_word)})"))
    if len(parts) == 1:
        return parts[0][1]
    return ", ".join(f"{percent_text(ratio)} {words}" for ratio, words in parts) or "no energy seen"


def _remarks(devices: list[dict[str, Any]]) -> list[str]:
    gaps = [
        f"{_short_id(device['id'])} {duration_text(device['unobserved_s'])}"
        for device in devices
        if device["unobserved_s"] and device["unobserved_s"] >= 0.05  # less would read as 0.0 s
    ]
    odd = [
        f"{_short_id(device['id'])} {_times(counts['reset'], 'reset')}, {_times(counts['jump'], 'jump')}"
        for device in devices
        if (counts := device["anomalies"]) and (counts["reset"] or counts["jump"])
    ]
    lines = []
    if gaps:
        lines.append(_listed("  not observed, and not counted: ", gaps))
    if odd:
        lines.append(_listed("  counter readings rejected: ", odd))
    return lines


def _times(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _listed(start: str, items: list[str]) -> str:
    """One line with as many of the items as fit, and how many more there are."""
    line = start + items[0]
    for position, item in enumerate(items[1:], start=1):
        if len(line) + len(item) > WIDTH - 14:
            return f"{line}; and {len(items) - position} more"
        line += f"; {item}"
    return line


def _unit(amount: float, units: tuple[tuple[float, str], ...]) -> str:
    """The first unit whose threshold the amount reaches; the last one is for 0."""
    return next(unit for threshold, unit in units if abs(amount) >= threshold)


def _range_text(low: float | None, high: float | None, divisor: float) -> str:
    if low is None or high is None:
        return "range unknown"
    return f"{_figure(low / divisor)} to {_figure(high / divisor)}"


def _figure(number: float) -> str:
    """About three significant digits, never in powers of ten."""
    size = abs(number)
    if size >= 100 or size == 0:
        return f"{number:.0f}"
    if size >= 10:
        return f"{number:.1f}"
    if size >= 1:
        return f"{number:.2f}"
    return f"{number:.3f}" if size >= 0.0005 else "<0.001"

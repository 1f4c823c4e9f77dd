"""A run as the carbon part of a Hugging Face model card: `co2_eq_emissions` and the impact statement.

The keys are those of https://huggingface.co/docs/hub/model-cards-co2; emissions are in grams. An unknown
value is left out, with a comment that says how to give it: a guess would look like a fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carbonmon.runs.report.equivalents import known_carbon
from carbonmon.runs.report.impact import hardware, statement
from carbonmon.runs.report.markdown import section_markdown
from carbonmon.runs.report.markup import escaped, yaml_number, yaml_text
from carbonmon.runs.report.other_places import sections, what_if_text
from carbonmon.runs.summary.figures import percent_text
from carbonmon.runs.summary.strings import is_estimated

TRAINING_TYPE_LABEL = "training_type"
"""The run's label that holds what only the user knows: pre-training or fine-tuning."""


def model_card_text(summary: Mapping[str, Any], place: str = "") -> str:
    """Front matter in YAML and a section in Markdown, ending in a newline.

    `place` names the zone for people, "" where it is unknown.
    """
    training_type = summary["run"]["labels"].get(TRAINING_TYPE_LABEL, "")
    used = hardware(summary["energy"]["devices"])
    lines = [
        "---",
        "co2_eq_emissions:",
        _emissions(known_carbon(summary)["emissions_g"]),
        f"  source: {yaml_text(_source(summary))}",
        _entry(
            "training_type", training_type, f"pre-training or fine-tuning: --label {TRAINING_TYPE_LABEL}=…"
        ),
        _entry("geographical_location", place, "where it ran: no region was given"),
        _entry("hardware_used", used, "no device was seen or named"),
        "---",
        "",
        "## Environmental impact",
        "",
        "\n\n".join(statement(summary)),
        *_other_places(summary),
    ]
    return "\n".join(lines) + "\n"


def _other_places(summary: Mapping[str, Any]) -> list[str]:
    """What was asked of other places, as text below the statement: never in the card's own figures."""
    what_if = what_if_text(summary)
    found = ["", f"What if: {escaped(what_if, 500)}."] if what_if else []
    return [*found, *(f"\n#{section_markdown(section).rstrip()}" for section in sections(summary))]


def _emissions(grams: float | None) -> str:
    if grams is None:
        return "  # emissions: unknown (no sensor gave a reading)"
    return f"  emissions: {yaml_number(grams)}"


def _entry(key: str, value: str, hint: str) -> str:
    return f"  {key}: {yaml_text(value)}" if value else f"  # {key}: unknown ({hint})"


def _source(summary: Mapping[str, Any]) -> str:
    """The source of the figures, and how much of them was measured."""
    energy, carbon = summary["energy"], summary["carbon"]
    measured = energy["measured_ratio"]
    if measured is None:
        nothing = "energy estimated" if is_estimated(energy["methods"]) else "no energy was drawn"
        known = "no energy was seen" if energy["total_j"] is None else nothing
        known = "how the energy was known is not said" if energy["total_j"] else known
    elif measured in (0, 1):
        known = "energy measured" if measured else "energy estimated"
        if not measured and (energy.get("stated_j") or 0.0) >= energy["total_j"] * (1 - 1e-9) > 0:
            known = "energy as given, not measured"
    else:
        known = f"{percent_text(measured)} of the energy measured, the rest estimated"
    settled = summary.get("settled")
    intensity = carbon["intensity"] if settled is None else settled.get("intensity") or carbon["intensity"]
    origin = " ".join(filter(None, (intensity.get("zone"), intensity.get("source")))) or "unknown"
    basis = ", ".join(filter(None, (intensity.get("basis"), intensity.get("accounting"))))
    return (
        f"carbonmon {summary['monitor']['version']}: {known}; carbon intensity: {origin}"
        f"{f' ({basis})' if basis else ''}; PUE {carbon['pue']:.2f}"
    )

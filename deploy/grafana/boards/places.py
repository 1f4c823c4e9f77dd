"""A run at other places: the annual intensity of some of them, from the bundled table, as PromQL."""

from __future__ import annotations

from carbonmon.grid.annual import Region
from carbonmon.grid.regions import resolve
from deploy.grafana.boards.promql import labelled

PLACES = (
    *("NO", "SE", "FR", "BR", "GB", "DE", "US", "JP", "CN", "AU", "PL", "IN", "ZA", "WORLD"),
    *("aws:us-east-1", "aws:us-west-2", "aws:ap-south-1", "azure:westeurope", "gcp:europe-west1"),
    *("gcp:us-central1", "gcp:asia-southeast1"),
)
"""Countries and regions of clouds from all over the range, chosen by hand."""


def regions() -> list[Region]:
    """The places; raises ValueError if what their figures count differs, so that they cannot be compared."""
    found = [resolve(place) for place in PLACES]
    counts = {(region.intensity.basis, region.intensity.accounting) for region in found}
    if len(counts) != 1:
        raise ValueError(f"the places' intensities cannot be compared: {sorted(map(str, counts))}")
    return found


def intensities() -> str:
    """A vector of g CO2e/kWh with the labels `place` and `counted`, one element a place."""
    return " or ".join(_element(region) for region in regions())


def _element(region: Region) -> str:
    intensity = region.intensity
    cloud = ":".join(region.cloud) if region.cloud else ""
    place = f"{cloud}, {region.name}" if cloud else f"{region.name} ({region.zone})"
    counted = f"{intensity.basis}, {intensity.accounting}, {intensity.year}, {intensity.zone}"
    return labelled(f"vector({intensity.g_per_kwh:g})", place=place, counted=counted)

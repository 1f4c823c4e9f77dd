"""Where and on what a run was, in the words of other formats: country, region, cloud, hardware."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from carbonmon.analysis.compare_regions import place_name, zones_of
from carbonmon.core.records import NamedTuple
from carbonmon.data import CLOUD_REGIONS, INTENSITIES, rows, using

_CLOUD = re.compile(r", ([a-z]+):([a-z0-9-]+)$")


class Where(NamedTuple):
    """Each "" where it is unknown: the country in English, its code of three letters, the cloud region."""

    country: str = ""
    alpha3: str = ""
    region: str = ""
    provider: str = ""
    cloud_region: str = ""


def where_of(summary: Mapping[str, Any]) -> Where:
    """The place of a run, unknown of one at several; raises ConfigError for tables that cannot be used."""
    if len(zones_of(summary)) > 1:
        return Where()
    zone = summary["carbon"]["intensity"]["zone"] or ""
    with using(INTENSITIES, CLOUD_REGIONS):
        countries = {row["iso_alpha2"]: row for row in rows(INTENSITIES) if row["zone_type"] == "country"}
        row = next((row for row in rows(INTENSITIES) if row["zone"] == zone), None)
        own = countries.get(row["iso_alpha2"]) if row is not None and row["iso_alpha2"] else None
    cloud = _CLOUD.search(place_name(summary))
    provider, cloud_region = cloud.groups() if cloud else ("", "")
    region = "" if row is None or row is own or row["zone_type"] in ("country", "world") else row["name"]
    if own is None:
        return Where("", "", region, provider, cloud_region)
    return Where(own["name"], own["iso_alpha3"], region, provider, cloud_region)

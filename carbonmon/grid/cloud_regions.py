"""Finds the row of a cloud region by its code, as people write it, and what its provider states."""

from __future__ import annotations

import re
from collections.abc import Iterator

from carbonmon.core.patterns import pattern
from carbonmon.data import CLOUD_REGIONS, Row, rows

_OTHER_PROVIDERS = {
    **{"amazon": "aws", "google": "gcp", "microsoft": "azure", "oci": "oracle", "ovhcloud": "ovh"},
    **{"aliyun": "alibaba", "alicloud": "alibaba", "huaweicloud": "huawei", "lambdalabs": "lambda"},
}
_CODE = pattern(r"([A-Za-z]+)(?:\s*:\s*|\s*/\s*|[\s_-]+)(\S.*)")
"""A provider and a region as people write them: `aws:us-east-1`, `aws/us-east-1`, `AWS us-east-1`."""
_ZONE = {
    **{"aws": pattern(r"(?<=\d)[a-f]$"), "gcp": pattern(r"-[a-f]$"), "ovh": pattern(r"-?\d{1,2}$")},
    **{
        "scaleway": pattern(r"-\d$"),
        "tencent": pattern(r"-\d{1,2}$"),
        "hetzner": pattern(r"-dc\d+$"),
    },
    **{
        "alibaba": pattern(r"-[a-n]$"),
        "huawei": pattern(r"[a-h]$"),
        "coreweave": pattern(r"[a-c]$"),
    },
    "ibm": pattern(r"-\d$"),
}
"""The suffix of an availability zone of a region: `us-east-1a`, `us-central1-a`."""


def cloud_rows() -> Iterator[Row]:
    """The cloud regions."""
    return rows(CLOUD_REGIONS)


def cloud_code(row: Row) -> str:
    """The code of a cloud region: `aws:us-east-1`."""
    return f"{row['provider']}:{row['region']}"


def cloud_row(wanted: str) -> Row | None:
    """The cloud region that a text names, by its code or by that of an availability zone in it."""
    match = _CODE.fullmatch(wanted)
    if match is None:
        return None
    provider = _OTHER_PROVIDERS.get(match[1].lower(), match[1].lower())
    region = match[2].lower()
    wider = _ZONE[provider].sub("", region) if provider in _ZONE else region
    found = {_joined(row["region"]): row for row in rows(CLOUD_REGIONS, "provider", (provider,))}
    return found.get(_joined(region)) or found.get(_joined(wider))


def provider_g_per_kwh(row: Row) -> float | None:
    """The carbon intensity that the provider publishes for the region, in gCO2e/kWh."""
    text = row["provider_gco2_per_kwh_2024"]
    return float(text) if text else None


def pues(row: Row) -> tuple[float | None, float | None, str]:
    """The PUEs that the provider states for the region and for its fleet, and both in words."""
    region_pue = float(row["region_pue"]) if row["region_pue"] else None
    provider_pue = float(row["provider_pue"]) if row["provider_pue"] else None
    stated = []
    if region_pue is not None:
        stated.append(f"{region_pue:g} for the region ({row['region_pue_year']})")
    if provider_pue is not None:
        stated.append(f"{provider_pue:g} for the provider ({row['provider_pue_note']})")
    note = f"PUE {', '.join(stated)}: stated, not applied" if stated else ""
    return region_pue, provider_pue, note


def _joined(region: str) -> str:
    """A region's code without separators between its parts: `west europe`, `us_east_1`."""
    return re.sub(r"[\s_-]+", "", region.lower())

#!/usr/bin/env bash
# entsoe-py 0.8.1 with nett=True gives 0 MW for an hour whose generation is unknown, if anything in the zone consumes.
#
# Expected: a missing hour is NaN, with nett as without.
# Seen (2026-11-30, Linux x86_64): a document of actual generation by type with nuclear power of 40 GW, whose second hour is
# missing, and pumped storage. Parsed by the function behind query_generation: NaN without nett. With nett it is 0.0, because a
# type without consumption is netted against nothing after all gaps became 0; but NaN if pumped storage only generates:
#   nan; nett 0.0; nett without a consumer nan
#
# A carbon intensity of such a table is far too high for that hour, and a ffill or dropna finds nothing to mend.
# query_generation_import asks with nett=True itself. carbonmon reads no such table, but users make its --intensity-file of
# one: docs/use/input-files.md says so.
#
# Exit code: 0 as described, 1 different now, 2 the packages cannot be had.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile entsoe-py==0.8.1 pandas==3.1.1 2>/dev/null || exit 2
now=$("$folder/venv/bin/python" - <<'PYTHON'
from entsoe.parsers import parse_generation


def series(number, kind, megawatts, domain="inBiddingZone_Domain.mRID"):
    """Three hours of a type of generation; what is missing in `megawatts` is not in the document."""
    points = "".join(f"<Point><position>{hour}</position><quantity>{mw}</quantity></Point>" for hour, mw in megawatts.items())
    interval = "<timeInterval><start>2026-11-01T00:00Z</start><end>2026-11-01T03:00Z</end></timeInterval>"
    return (
        f"<TimeSeries><mRID>{number}</mRID><businessType>A01</businessType><objectAggregation>A08</objectAggregation>"
        f'<{domain} codingScheme="A01">10YFR-RTE------C</{domain}>'
        "<quantity_Measure_Unit.name>MAW</quantity_Measure_Unit.name><curveType>A01</curveType>"
        f"<MktPSRType><psrType>{kind}</psrType></MktPSRType>"
        f"<Period>{interval}<resolution>PT60M</resolution>{points}</Period></TimeSeries>"
    )


def document(*parts):
    namespace = "urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"
    return f'<GL_MarketDocument xmlns="{namespace}"><type>A75</type>{"".join(parts)}</GL_MarketDocument>'


nuclear = series(1, "B14", {1: 40000, 3: 40000})
storage = series(2, "B10", {1: 500, 2: 500, 3: 500})
pumping = series(3, "B10", {1: 100, 2: 900, 3: 100}, "outBiddingZone_Domain.mRID")
whole, generating = document(nuclear, storage, pumping), document(nuclear, storage)
plain = parse_generation(whole)[("Nuclear", "Actual Aggregated")].iloc[1]
nett = parse_generation(whole, nett=True)["Nuclear"].iloc[1]
alone = parse_generation(generating, nett=True)["Nuclear"].iloc[1]
print(f"{plain}; nett {nett}; nett without a consumer {alone}")
PYTHON
)
echo "seen now: $now"
[ "$now" = "nan; nett 0.0; nett without a consumer nan" ]

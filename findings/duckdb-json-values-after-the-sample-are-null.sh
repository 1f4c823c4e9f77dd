#!/usr/bin/env bash
# duckdb 2.0.1 reads numbers as NULL, and fractions as whole numbers, in all files from the 33rd on.
#
# Expected: read_json over a pattern of files looks at all of them, or refuses a value that does not fit the column's type, as
# polars 2.1.0 does ("got non-null value for NULL-typed column").
# Seen (2026-11-30, Linux x86_64): 40 files of JSON Lines, one row each. Types come from the first 32 files
# (maximum_sample_files). A column that is null in these gets the type "NULL", a new one in 2.0, and the numbers of the other
# eight are read as null; one with whole numbers there is BIGINT, and 44.7 becomes 45. No error, no warning:
#   types "NULL" BIGINT, greatest power None W, greatest intensity 45
# (duckdb 1.5.0 gave the first column the type JSON: its greatest value is then that of texts, 99.5 of 99.5 and 301.4.)
#
# carbonmon's rows never change a column's type, but a power may be null, and there is a file for each run. So the query that the
# docs show names the types: docs/use/series.md, tests/runs/test_series_file.py.
#
# Exit code: 0 as described, 1 different now, 2 the packages cannot be had.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile duckdb==2.0.1 2>/dev/null || exit 2
now=$("$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

import duckdb

folder = Path(sys.argv[1])
for number in range(40):
    row = {"power_w": None, "intensity": 44} if number < 32 else {"power_w": [99.5, 301.4][number % 2], "intensity": 44.7}
    (folder / f"run-{number:02}.jsonl").write_text(json.dumps(row) + "\n")
rows = duckdb.sql(f"SELECT power_w, intensity FROM read_json('{folder}/run-*.jsonl')")
power_w, intensity = rows.aggregate("max(power_w), max(intensity)").fetchall()[0]
print("types", *rows.types, end=", ")
print(f"greatest power {power_w} W, greatest intensity {intensity}")
PYTHON
)
echo "seen now: $now"
[ "$now" = 'types "NULL" BIGINT, greatest power None W, greatest intensity 45' ]

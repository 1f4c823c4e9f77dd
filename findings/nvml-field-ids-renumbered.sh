#!/usr/bin/env bash
# NVML's field ids are not stable: 23 names have another number in the header of 13.4.92 than in that of 12.9.79.
#
# Expected: ids of nvmlDeviceGetFieldValues are only added to, as the rest of the interface is.
# Seen (2026-11-28, Linux x86_64, the headers alone, no GPU): the ids from 251 to 273 were handed out anew. With the constant
# of one series a driver of the other answers another question: 251 is the time of thermal slow-down in 12.9.79 and whether
# power smoothing is on in 13.4.92; the call succeeds in both. Ids up to 250 are the same, among them those of power (185 and
# 186) and energy (83 and 191).
#
# carbonmon therefore reads fields up to 250 only; tests/simulator/test_nvml_header.py holds them against both headers.
#
# Exit code: 0 as described, 1 different now, 2 the packages cannot be had.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --target "$folder/old" --no-deps nvidia-nvml-dev-cu12==12.9.79 || exit 2
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --target "$folder/new" --no-deps nvidia-nvml-dev==13.4.92 || exit 2
python3 - "$folder" <<'PYTHON'
import re
import sys
from pathlib import Path


def field_ids(folder: Path) -> dict[str, int]:
    (header,) = folder.rglob("nvml.h")
    found = re.findall(r"^#define\s+(NVML_FI_\w+)\s+(\d+)\b", header.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found if name != "NVML_FI_MAX"}


old, new = (field_ids(Path(sys.argv[1]) / name) for name in ("old", "new"))
moved = sorted((old[name], new[name], name) for name in old.keys() & new.keys() if old[name] != new[name])
print(f"12.9.79 has {len(old)} field ids, 13.4.92 has {len(new)}; {len(moved)} names have another number:")
for before, after, name in moved:
    print(f"  {before} -> {after}  {name}")
power_and_energy = ("TOTAL_ENERGY_CONSUMPTION", "POWER_AVERAGE", "POWER_INSTANT")
same = all(old[f"NVML_FI_DEV_{name}"] == new[f"NVML_FI_DEV_{name}"] for name in power_and_energy)
as_described = same and len(moved) == 23 and {before for before, _, _ in moved} == set(range(251, 274))
sys.exit(0 if as_described else 1)
PYTHON

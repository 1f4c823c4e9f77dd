#!/usr/bin/env bash
# carbontracker 2.4.7 takes the mean of a node's GPUs for their sum: eight GPUs of 205 W are 205 W.
#
# Expected: the energy of its component "gpu" is that of all GPUs that it lists.
# Seen (2026-11-30, Linux x86_64, CPython 3.11; a library of ours in the place of libnvidia-ml.so.1 that knows as many GPUs, each
# at 205 W): an hour, three measurements, by the class that its tracker asks:
#   1 GPU 0.205 kWh, 8 GPUs 0.205 kWh
#
# The powers of all GPUs are put into one flat list for an epoch, and the mean of the list is multiplied by its time. Figures of a
# training on several GPUs that were made with it are too small by their number. carbonmon adds devices up; the comparison in
# docs/use/measurements.md says it where the programs are side by side.
#
# Exit code: 0 as described, 1 different now, 2 the packages or a compiler cannot be had.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" install --quiet --no-compile)
"${pip[@]}" numpy==2.4.3 nvidia-ml-py==13.615.71 psutil==7.2.2 py-cpuinfo==9.0.0 importlib-metadata==8.7.0 \
    requests==2.32.5 2>/dev/null || exit 2
"${pip[@]}" --no-deps carbontracker==2.4.7 2>/dev/null || exit 2 # its maps, plots and tables are not used here
cat > "$folder/nvml.c" <<'C'
#include <stdint.h>
#include <stdlib.h>
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = atoi(getenv("GPUS")); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(uintptr_t)(index + 1); return 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *power_mw) { *power_mw = 205000; return 0; }
C
cc -shared -fPIC -o "$folder/libnvidia-ml.so.1" "$folder/nvml.c" || exit 2
cat > "$folder/hour.py" <<'PYTHON'
import logging
import os

from carbontracker.components.component import Component

gpus = Component("gpu", pids=[], devices_by_pid=False, logger=logging.getLogger())
gpus.handler.init()
for _ in range(3):
    gpus.collect_power_usage(1)
gpus.handler.shutdown()
(energy_kwh,) = gpus.energy_usage([3600])
print(f"{os.environ['GPUS']} GPU{'s' * (os.environ['GPUS'] != '1')} {energy_kwh:.3f} kWh")
PYTHON
look() { env -u CUDA_VISIBLE_DEVICES GPUS="$1" LD_LIBRARY_PATH="$folder" "$folder/venv/bin/python" "$folder/hour.py"; }
now="$(look 1), $(look 8)"
echo "seen now: $now"
[ "$now" = "1 GPU 0.205 kWh, 8 GPUs 0.205 kWh" ]

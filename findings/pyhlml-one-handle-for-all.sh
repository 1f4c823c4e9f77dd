#!/usr/bin/env bash
# pyhlml 1.9.0.580.1 gives one and the same handle object for all accelerators: every look-up changes the handles before it.
#
# Expected: a handle for each accelerator, as hlmlDeviceGetHandleByIndex is documented, and as habana-pyhlml 1.24 gives.
# Seen (2026-11-30, Debian 12 container without a Gaudi accelerator, a library of ours in the place of libhlml.so):
#   100 W and 200 W read one after the other: 100000 200000; by handles that were kept: 200000 200000
#
# Who keeps handles reads the last accelerator's power for all of them, without an error. carbonmon therefore copies each
# handle as soon as it gets it: carbonmon/hardware/sensors/gaudi/hlml.py.
#
# Exit code: 0 as described, 1 different now, 2 the package or a compiler cannot be had.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyhlml==1.9.0.580.1 || exit 2
cat > "$folder/hlml.c" <<'C'
#include <stdint.h>
int hlml_init(void) { return 0; }
int hlml_device_get_handle_by_index(unsigned index, void **handle) { *handle = (void *)(uintptr_t)(index + 1); return 0; }
int hlml_device_get_power_usage(void *handle, unsigned *power_mw) { *power_mw = 100000 * (unsigned)(uintptr_t)handle; return 0; }
C
cc -shared -fPIC -o "$folder/libhlml.so" "$folder/hlml.c" || exit 2
now=$("$folder/venv/bin/python" - "$folder/libhlml.so" <<'PYTHON'
import sys

import pyhlml
import pyhlml.hlml_lib

pyhlml.hlml_lib.LibHLML.__init__.__defaults__ = (sys.argv[1],)
pyhlml.hlmlInit()
at_once = [pyhlml.hlmlDeviceGetPowerUsage(pyhlml.hlmlDeviceGetHandleByIndex(index)) for index in (0, 1)]
kept = [pyhlml.hlmlDeviceGetHandleByIndex(index) for index in (0, 1)]
print(*at_once, *(pyhlml.hlmlDeviceGetPowerUsage(handle) for handle in kept))
PYTHON
)
echo "seen now: $now"
[ "$now" = "100000 200000 200000 200000" ]

"""A stand-in for `nvidia-smi --query-gpu=timestamp,power.draw -lms MS`, through whatever NVML there is.

python -m tests.simulator.nvidia_smi --query-gpu=timestamp,power.draw --format=csv,noheader,nounits -lms 200
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import datetime

import pynvml


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for the GPU every so many ms until it is ended; without -lms one line."""
    parser = argparse.ArgumentParser(prog="nvidia-smi", allow_abbrev=False)
    parser.add_argument("--query-gpu", choices=["timestamp,power.draw"], required=True)
    parser.add_argument("--format", choices=["csv,noheader,nounits"], required=True)
    parser.add_argument("-i", default="0", help="index or UUID")
    parser.add_argument("-lms", type=int)
    options = parser.parse_args(arguments)
    pynvml.nvmlInit()
    by_index = options.i.isdigit()
    find = pynvml.nvmlDeviceGetHandleByIndex if by_index else pynvml.nvmlDeviceGetHandleByUUID
    handle = find(int(options.i) if by_index else options.i)
    while True:
        now = datetime.now().strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]
        try:
            power = f"{pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3:.2f}"
        except pynvml.NVMLError:
            power = "[N/A]"
        sys.stdout.write(f"{now}, {power}\n")
        sys.stdout.flush()
        if options.lms is None:
            return 0
        time.sleep(options.lms / 1e3)


if __name__ == "__main__":
    sys.exit(main())

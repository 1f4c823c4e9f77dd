"""Run by a peer's own interpreter: its tracker around a job that sleeps; the joules go to a file at the end.

python in_process.py TRACKER SECONDS FILE
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

J_PER_KWH = 3.6e6
Stop = Callable[[], float]


def codecarbon(folder: Path) -> Stop:
    """Offline, as its documentation says for nodes without a network; a reading each second."""
    from codecarbon import OfflineEmissionsTracker  # type: ignore[import-not-found]

    tracker = OfflineEmissionsTracker(
        country_iso_code="FRA", measure_power_secs=1, output_dir=str(folder), log_level="error"
    )
    tracker.start()

    def stop() -> float:
        tracker.stop()
        return float(tracker.final_emissions_data.energy_consumed) * J_PER_KWH

    return stop


def zeus(folder: Path) -> Stop:
    """A window around the job, as its documentation begins: counters at both ends."""
    from zeus.monitor import ZeusMonitor  # type: ignore[import-not-found]

    monitor = ZeusMonitor(log_file=str(folder / "zeus.csv"))
    monitor.begin_window("job", sync_execution=False)

    def stop() -> float:
        found = monitor.end_window("job", sync_execution=False)
        parts = (found.gpu_energy, found.cpu_energy or {}, found.dram_energy or {})
        return float(sum(joules for part in parts for joules in part.values()))

    return stop


def carbontracker(folder: Path) -> Stop:
    """One epoch; a reading each second, the nearest to that of the others."""
    from carbontracker import parser  # type: ignore[import-not-found]
    from carbontracker.tracker import CarbonTracker  # type: ignore[import-not-found]

    tracker = CarbonTracker(
        epochs=1, monitor_epochs=1, update_interval=1, log_dir=str(folder), verbose=0, decimal_precision=9
    )
    tracker.epoch_start()

    def stop() -> float:
        tracker.epoch_end()
        tracker.stop()
        (run,) = parser.parse_all_logs(str(folder))
        return float(run["actual"]["energy (kWh)"]) * J_PER_KWH

    return stop


TRACKERS = {"codecarbon": codecarbon, "zeus": zeus, "carbontracker": carbontracker}


def main() -> None:
    name, seconds, file = sys.argv[1:]
    stop = TRACKERS[name](Path(file).parent)
    time.sleep(float(seconds))
    Path(file).write_text(f"{stop()!r}\n")


if __name__ == "__main__":
    main()

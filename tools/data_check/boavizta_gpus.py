"""Prints what BoaviztAPI computes for the making of each of its GPUs, in kgCO2e, as JSON.

Runs with a Python that has it installed.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from boaviztapi import data_dir
from boaviztapi.dto.component.gpu import GPU, mapper_gpu
from boaviztapi.service.impacts_computation import compute_impacts

YEARS_H = 3 * 8760


def main() -> None:
    """One request for each name of its table."""
    found = {}
    with (Path(data_dir) / "crowdsourcing" / "gpu_specs.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            model = mapper_gpu(GPU(name=row["name"]))
            impacts = compute_impacts(model=model, selected_criteria=["gwp"], duration=YEARS_H)
            found[row["name"]] = float(impacts["gwp"]["embedded"]["value"])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()

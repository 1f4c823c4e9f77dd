"""`python -m tests.chaos [--kills 100] [--seed N] [--short]`: one Markdown table on stdout."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence

from tests.chaos import clocks, disks, hardware, kills, limits, longrun, storm, table, users
from tests.chaos.table import Row
from tests.simulator import can_build

PARTS: dict[str, Callable[[bool, int, random.Random], Iterator[Row]]] = {
    "kills": kills.rows,
    "hardware": hardware.rows,
    "disks": disks.rows,
    "clocks": clocks.rows,
    "longrun": longrun.rows,
    "limits": limits.rows,
    "users": users.rows,
    "storm": storm.rows,
}


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="SIGKILLs of the long form")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of everything that is random")
    parser.add_argument("--short", action="store_true", help="each scenario once and briefly")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    options = parser.parse_args(arguments)
    if not can_build():
        parser.error("the simulated machine needs gcc")
    sys.stdout.write(f"{table.heading('tests.chaos', arguments, options.seed)}\n\n{table.HEAD}\n")
    missed = 0
    for name, rows in PARTS.items():
        if options.only and name not in options.only:
            continue
        sys.stderr.write(f"{name} …\n")
        # One stream of chance for each part, so that a part alone repeats what it did among all.
        for row in rows(options.short, options.kills, random.Random(f"{options.seed} {name}")):
            sys.stdout.write(table.line(row) + "\n")
            sys.stdout.flush()
            missed += not row.ok
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

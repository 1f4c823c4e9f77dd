"""`python -m tests.bench [--quick] [--only NAME]… [--beside PYTHON]`: one Markdown table on stdout.

Progress is on stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.bench import (
    beside,
    boards,
    cpu,
    daemon,
    edges,
    endpoint,
    energy,
    faults,
    grid,
    memory,
    page,
    phases,
    report,
    scale,
    scrape,
    sharing,
    size,
    start,
    stores,
    table,
    tick,
    top,
)
from tests.simulator import can_build

PARTS = {
    "start": start.rows,
    "memory": memory.rows,
    "cpu": cpu.rows,
    "tick": tick.rows,
    "scrape": scrape.rows,
    "size": size.rows,
    "energy": energy.rows,
    "faults": faults.rows,
    "phases": phases.rows,
    "daemon": daemon.rows,
    "sharing": sharing.rows,
    "grid": grid.rows,
    "endpoint": endpoint.rows,
    "page": page.rows,
    "top": top.rows,
    "report": report.rows,
    "scale": scale.rows,
    "edges": edges.rows,
    "boards": boards.rows,
    "stores": stores.rows,
}

APART = frozenset(("boards", "edges", "stores"))
"""What takes long and is measured only when it is named."""


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and shorter runs: about two minutes"
    )
    parser.add_argument("--only", action="append", choices=PARTS, metavar="NAME", help=", ".join(PARTS))
    parser.add_argument(
        "--beside",
        metavar="PYTHON",
        help="measure the carbonmon of this interpreter's environment beside this one, and nothing else",
    )
    options = parser.parse_args(arguments)
    if not can_build():
        parser.error("the simulated machine needs gcc")
    if options.beside is not None:
        try:
            other = beside.version(options.beside)
        except (OSError, RuntimeError) as error:
            parser.error(f"--beside: {error}")
        return _beside(options.beside, other, arguments, options.quick)
    sys.stdout.write(f"{table.heading(arguments)}\n\n{table.HEAD}\n")
    for name, rows in PARTS.items():
        if name not in (options.only or PARTS.keys() - APART):
            continue
        sys.stderr.write(f"{name} …\n")
        for row in rows(options.quick):
            sys.stdout.write(table.line(row) + "\n")
            sys.stdout.flush()
    return 0


def _beside(interpreter: str, other: str, arguments: Sequence[str], quick: bool) -> int:
    """Two builds in one table, with their ratio."""
    head = beside.HEAD.format(other=other)
    sys.stdout.write(f"{table.heading(arguments)}\n\n{head}\n")
    for figure in beside.figures(interpreter, quick):
        sys.stdout.write(beside.line(figure) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())

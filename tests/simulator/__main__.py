"""Run a command inside a simulated machine, then tell the truth: `python -m tests.simulator -- COMMAND…`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.simulator import (
    Constant,
    Gpu,
    Mig,
    Package,
    Simulator,
    Sine,
    Square,
    boards,
    can_wrap,
    cards,
    truth,
)
from tests.simulator.rocm import Rocm


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the command's exit code; what the devices drew goes to stderr: during the command, or with
    `--runs` during each of its runs, beside what carbonmon says of that."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--gpus", type=int, default=1, metavar="N")
    parser.add_argument("--mig", type=int, default=0, metavar="N", help="MIG instances on each GPU")
    parser.add_argument("--packages", type=int, default=1, metavar="N")
    parser.add_argument("--psys", action="store_true", help="add a psys zone")
    parser.add_argument("--watts", type=float, help="constant power of each GPU instead of a square wave")
    parser.add_argument("--machine", choices=boards.MACHINES, help="chips of hwmon beside them")
    parser.add_argument("--cards", choices=cards.MACHINES, help="cards that a vendor's library tells")
    parser.add_argument("--rocm", action="store_true", help="ROCm's library and package for cards of AMD")
    parser.add_argument("--no-namespace", action="store_true", help="leave /sys alone; the tree is at $SYSFS")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="compare with the command's runs in it")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    gpus = [
        Gpu(
            profile=Constant(options.watts) if options.watts else Square(60, 350, 0.7 + 0.1 * place),
            mig=[Mig()] * options.mig if options.mig else None,
        )
        for place in range(options.gpus)
    ]
    packages = [Package(Sine(120, 40, period_s=5), dram=Constant(15))] * options.packages
    inside = bool(packages) and not options.no_namespace
    if inside and not can_wrap():
        sys.stderr.write("simulator: no mount namespaces here: /sys is the real one, the tree is at $SYSFS\n")
        inside = False
    chips, board = boards.MACHINES[options.machine]() if options.machine else ([], "")
    psys = Constant(400) if options.psys else None
    own = cards.MACHINES[options.cards]() if options.cards else []
    with Simulator(gpus=gpus, packages=packages, psys=psys, chips=chips, cards=own, board=board) as machine:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command
        try:
            start_s, since_s = machine.now_s(), machine.wall_s()
            environ = {"SYSFS": str(machine.sysfs), **(Rocm(machine).environ if options.rocm else {})}
            child = machine.popen(options.command, wrap=inside, env=environ, stdout=None, stderr=None)
            code = child.wait()
            end_s = machine.now_s()
        finally:
            signal.signal(signal.SIGINT, handler)
        runs = [] if options.runs is None else list(truth.summaries_since(options.runs, since_s))
        for summary in runs:
            sys.stderr.write(truth.text(summary, truth.compare(machine, summary)))
        if runs:
            return code if code >= 0 else 128 - code
        sys.stderr.write(f"simulator: the truth for these {end_s - start_s:.3f} s\n")
        for gpu in machine.gpus:
            sys.stderr.write(f"  {gpu.uuid:<40} {gpu.energy_j(start_s, end_s):12.3f} J\n")
        for card in machine.cards:
            sys.stderr.write(f"  {card.id:<40} {card.energy_j(start_s, end_s):12.3f} J\n")
        for key, zone in (machine.zones | machine.channels).items():
            sys.stderr.write(f"  {key:<40} {zone.energy_j(start_s, end_s):12.3f} J\n")
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())

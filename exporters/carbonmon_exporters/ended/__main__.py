"""`python -m carbonmon_exporters.ended`: waits until the monitor that started it has ended, then serves.

The job's exit waits for that monitor: until it has gone, this process takes no more of its CPU than Python's
own start. Its standard input is a pipe that the monitor holds and never writes to.
"""

import os
import select
import signal
import sys

MONITOR_S = 5.0
"""How long it waits at most: a monitor may hang, in a driver for example."""

START_S = 60
"""How long its start may take: then the kernel ends it. The process sets its own time after that."""

if __name__ == "__main__":
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.alarm(START_S)
    select.select([0], [], [], MONITOR_S)
    os.dup2(1, 0)  # the null device

    from carbonmon_exporters.library_parts import spare_the_package

    spare_the_package()
    from carbonmon_exporters.ended.process import main

    main(*map(int, sys.argv[1:]))

"""The command `carbonmon`; `python -m carbonmon` is the same."""

import gc
import os
import sys


def main() -> None:
    try:
        _main()
    except KeyboardInterrupt:  # Ctrl-C while we are still loading; a job, once it is there, gets it
        sys.exit(130)


def _main() -> None:
    mistake = None
    if sys.argv[1:2] == ["run"]:
        # What a start makes stays: to look for garbage in it again and again is a fifth of its CPU time.
        # Once the job has started, `single_run.py` lets the collector work.
        gc.disable()
        from carbonmon.cli import plain_run
        from carbonmon.core.errors import ConfigError

        try:
            code = plain_run.run(sys.argv[2:], os.environ)
            if code is not None:
                sys.exit(code)
        except ConfigError as error:
            mistake = error  # `cli/run.py` says it, with its usage
        gc.enable()
    from carbonmon.cli.group import main as group

    group(obj=mistake)


if __name__ == "__main__":
    main()

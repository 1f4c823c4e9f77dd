"""`python -m carbonmon`, the same as the command `carbonmon`."""

from carbonmon.cli import main

main()

"""Compares the bundled tables with what other projects ship, and writes docs/develop/data-check.md.

    make data-check

fetches the pinned packages into build/data-check, reads their files without running them (but for BoaviztAPI,
whose figures of GPUs are computed), and looks each of their figures up in the tables as the product does.
Every difference above a quarter needs a verdict in `verdicts.csv`, every row that two sources deny a verdict
of its own; else the exit code is 1. Nothing is copied into the tables.
"""

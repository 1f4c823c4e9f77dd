"""Whatever is in a file, the outcome is a value or an error that names file and field: never anything else.

The tests take no fixtures, so that `python -m tests.fuzz --minutes N` can go on where pytest stops.
"""

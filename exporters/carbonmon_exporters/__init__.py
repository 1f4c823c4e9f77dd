"""What carbonmon shows to the world: Prometheus metrics and the summary file.

An exporter sees nothing but immutable snapshots. Nothing here samples, waits for a sensor or changes
a total, and nothing is imported before an exporter is asked for by name.
"""

"""`carbonmon top`: a run, or a node with its runs, as a monitor's JSON API tells them, drawn in a terminal.

Nothing here reads a sensor or a run's folder.
"""

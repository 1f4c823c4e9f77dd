"""Hours of a node's daemon: runs that come and go, sensors that fail, restarts, scrapes.

`make soak` runs for 20 minutes (`SOAK_MINUTES=180` for three hours) on a simulated machine whose energy is
known in closed form, and prints a Markdown table. The first half has restarts and kills; in the second the
daemon lives on, so that what grows is seen.
"""

"""What the monitor costs and how exact it is on this machine: `python -m tests.bench` prints one table.

Nothing here asserts a time: machines differ, and a table that says so is worth more than a red test.
"""

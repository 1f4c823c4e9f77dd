"""The soak-and-chaos harness: runs that are killed and starved, against a truth in closed form.

    python -m tests.chaos [--kills 100] [--seed N] [--short]

Each module holds scenarios of one kind and yields rows of one Markdown table. Chance comes from the seed
alone; monitors are real processes on a simulated machine, or the monitor's own parts on an injected clock.
"""

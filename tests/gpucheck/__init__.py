"""Whether the meter is right on this machine's GPU: `python -m tests.gpucheck`, or `make gpu-check`.

It runs from a checkout without installing anything (`PYTHONPATH=.:exporters`), loads the GPU with steps of
power, and writes one JSON and one page of text: each figure with its expectation and where that is from.
Without a GPU it checks the simulated machine, and says so on every line. On a GPU it changes nothing;
the one exception, a lowered power limit, has to be asked for and is set back.
"""

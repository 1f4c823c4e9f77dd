"""Keeps runs that have ended in /metrics until those who scrape have seen the end.

A process that does nothing else serves them, or the next monitor at its port shows them beside its own.
"""

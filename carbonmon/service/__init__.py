"""Puts a monitor together from a config, and keeps it serving until it ends."""

"""Meters of the whole machine: one file, or one package, a kind."""

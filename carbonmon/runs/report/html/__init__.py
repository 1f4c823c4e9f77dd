"""A run as one HTML file that reads without scripts, and without anything from elsewhere."""

from pathlib import Path

LOOK = Path(__file__).parent / "look.css"
"""Colours and shapes, which the live page has too."""

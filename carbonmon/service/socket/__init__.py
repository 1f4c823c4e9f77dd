"""The monitor's local socket: who may say what, and what it means."""

"""The live loop: samples, attribution, totals, checkpoints. One thread owns it."""

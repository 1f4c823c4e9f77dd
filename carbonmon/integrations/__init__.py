"""carbonmon inside a training loop: `transformers`, `lightning`, `keras`, and `loop` for one written by hand.

Each module imports its framework and the standard library, and is loaded only when it is imported itself.
"""

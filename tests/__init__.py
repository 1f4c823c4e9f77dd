"""The tests; a package of its own so that no installed package of this name stands before it."""

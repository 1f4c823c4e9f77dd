"""The callbacks in the real frameworks; run by `make test-frameworks`, in an environment of its own."""

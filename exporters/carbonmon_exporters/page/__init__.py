"""The live page at `/`, and the JSON that it reads: loaded with the first request for it, not before."""

API = 1
"""The version of the JSON: fields may be added to it; another meaning of one makes a new version."""

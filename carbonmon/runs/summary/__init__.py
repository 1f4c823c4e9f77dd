"""The summary of a run: its document, ranges and schema, its text, and the file."""

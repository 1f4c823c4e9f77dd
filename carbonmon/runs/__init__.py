"""One run as it is kept: its folder, checkpoint, series and summary, written and read again."""

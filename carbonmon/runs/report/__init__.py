"""A run's summary in other forms, what it means, and the summaries of several nodes as one."""

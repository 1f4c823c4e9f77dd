"""A run as others require it: the AI Act's Annex XI, SCI, BoAmps, CodeCarbon's table, a paper's paragraph."""

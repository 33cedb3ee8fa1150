"""Face trackers: one module each, with `Options` and `track`."""

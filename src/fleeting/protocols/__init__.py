"""Protocols: one module each, with `Options`, `classes`, `label` and `folds`."""

"""Model inputs: one module each, with `Options`, `channels`, `plan` and `make`."""

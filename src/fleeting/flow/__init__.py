"""Optical flow methods: one module each, with `Options` and `flow`."""

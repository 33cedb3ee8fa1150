"""Spotters: one module each, with `Options`, `LOOKS` and `locate`."""

"""Layers that several networks share: selective scan, state-space duality, wavelets, windows with scan orders."""

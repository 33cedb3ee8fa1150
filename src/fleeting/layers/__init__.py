"""Layers that several networks share: the selective scan, and windows with their scan orders."""

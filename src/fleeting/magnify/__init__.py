"""Magnified motion to look at: a picture of the flow, and a video of the frames warped by it beside the original.

Three ways stand side by side. "learned": the magnifier of a saved model. "flow": the flow times the factor. "linear":
differences of brightness times the factor, without any flow. See `moving` for how frames are made of them.
"""

from __future__ import annotations

from fleeting.magnify.clips import METHODS, Wanted, clip, lines
from fleeting.magnify.moving import folded, linear, moved

__all__ = ["METHODS", "Wanted", "clip", "folded", "linear", "lines", "moved"]

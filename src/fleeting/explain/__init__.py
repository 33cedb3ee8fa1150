"""Explanations: which places of a clip speak for a class, for any model, drawn on the face.

A heat map says what a network looked at. It says neither that the network is right nor what moved in the face.
"""

from __future__ import annotations

from fleeting.explain import beside
from fleeting.explain.clips import Wanted, clip, lines
from fleeting.explain.maps import METHODS, SIGNED, heat

__all__ = ["METHODS", "SIGNED", "Wanted", "beside", "clip", "heat", "lines"]

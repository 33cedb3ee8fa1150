"""A drawn face that moves by action units, with the true flow of every pixel.

All subjects are made from one photograph in the public domain: NASA's portrait of the astronaut Eileen Collins
(https://flic.kr/p/r9qvLn), given other shapes, hair, light and walls. Displacements are anchored at the points of a
face mesh and fall off smoothly; frames are drawn by the inverse of the very map that gives the flow.

    scene = Scene(length=40, expression=Expression(5, 15, 30, {"12": 1.0, "R6": 0.5}), subject=3)
    scene[15]            # (240, 320, 3) uint8
    scene.flow(5, 15)    # (2, 240, 320) float32 px
"""

from __future__ import annotations

from fleeting.simulation._scene import Disturbance, Expression, Scene
from fleeting.simulation._units import NAMES as UNITS

__all__ = ["UNITS", "Disturbance", "Expression", "Scene"]

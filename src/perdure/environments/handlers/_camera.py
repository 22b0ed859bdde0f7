"""Captures MuJoCo's free cameras, on which observed pictures may depend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_CAMERA = ("azimuth", "distance", "elevation")
_CAMERA_CHOICES = ("fixedcamid", "trackbodyid", "type")


def capture_camera(camera: Any) -> dict[str, Any]:
    """The position and the direction of a camera."""
    return {
        **{name: float(getattr(camera, name)) for name in _CAMERA},
        **{name: int(getattr(camera, name)) for name in _CAMERA_CHOICES},
        "lookat": camera.lookat.tolist(),
    }


def restore_camera(camera: Any, saved: Mapping[str, Any]) -> None:
    """Give a camera a captured position and direction.

    :raises ValueError: if the saved values are no such thing.
    """
    if any(type(saved[name]) is not float for name in _CAMERA):
        raise ValueError("expected numbers as the position of a camera")
    if any(type(saved[name]) is not int for name in _CAMERA_CHOICES) or not 0 <= saved["type"] <= 3:
        raise ValueError("expected numbers as the type and the target of a camera")
    lookat = np.array(saved["lookat"], np.float64)
    if lookat.shape != (3,):
        raise ValueError("expected three numbers as the point that a camera looks at")
    for name in (*_CAMERA, *_CAMERA_CHOICES):
        setattr(camera, name, saved[name])
    camera.lookat[...] = lookat

"""MuJoCo's free cameras: where one is and looks, which pictures that are observed may depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_CAMERA = ("azimuth", "distance", "elevation")
_CAMERA_CHOICES = ("fixedcamid", "trackbodyid", "type")


def capture_camera(camera: Any) -> dict[str, Any]:
    """Where a camera is and looks."""
    return {
        **{name: float(getattr(camera, name)) for name in _CAMERA},
        **{name: int(getattr(camera, name)) for name in _CAMERA_CHOICES},
        "lookat": camera.lookat.tolist(),
    }


def restore_camera(camera: Any, saved: Mapping[str, Any]) -> None:
    """Move a camera to where another one was."""
    if any(type(saved[name]) is not float for name in _CAMERA):
        raise ValueError("expected numbers as a camera's place")
    if any(type(saved[name]) is not int for name in _CAMERA_CHOICES) or not 0 <= saved["type"] <= 3:
        raise ValueError("expected numbers as what a camera follows")
    lookat = np.array(saved["lookat"], np.float64)
    if lookat.shape != (3,):
        raise ValueError("expected three numbers as what a camera looks at")
    for name in (*_CAMERA, *_CAMERA_CHOICES):
        setattr(camera, name, saved[name])
    camera.lookat[...] = lookat

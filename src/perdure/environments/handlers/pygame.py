"""pygame: pictures, from which observations may be read, and the small objects that games consist of. Knows no game.

Only the picture on the display is written in place. Any other picture that looks different is made anew, because the
script's may be an image that other parts of the game draw with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xxhash

from perdure.state import Handler, register_handler, skip

_MOST_PIXELS = 1 << 28
_ON_DISPLAY = "on display"


def _is_display(surface: Any) -> bool:
    import pygame

    return bool(pygame.display.get_init()) and pygame.display.get_surface() is surface


def _is_opengl(surface: Any) -> bool:
    import pygame

    return bool(surface.get_flags() & pygame.OPENGL)


def _kept_flags() -> int:
    import pygame

    return int(pygame.SRCALPHA)


def _format(surface: Any) -> list[Any]:
    return [
        *surface.get_size(),
        surface.get_bitsize(),
        surface.get_flags() & _kept_flags(),
        *surface.get_masks(),
    ]


def _settings(surface: Any) -> dict[str, Any]:
    colorkey, clip = surface.get_colorkey(), surface.get_clip()
    return {
        "colorkey": None if colorkey is None else list(colorkey),
        "alpha": surface.get_alpha(),
        "clip": list(clip),
        "palette": [list(color) for color in surface.get_palette()] if surface.get_bitsize() == 8 else None,
    }


def surface_form(surface: Any) -> str:
    """What two pictures must have in common for one to be written into the other: their content, except on display."""
    if surface.get_parent() is not None:
        return f"part of another: {surface.get_offset()} {surface.get_size()}"
    return _form(surface, None if _is_display(surface) else surface.get_buffer().raw)


def _form(surface: Any, content: bytes | None) -> str:
    if content is None:
        return f"{_ON_DISPLAY}: {_format(surface)}{' of OpenGL' * _is_opengl(surface)}"
    return f"{_format(surface)} {_settings(surface)} {xxhash.xxh3_128_hexdigest(content)}"


def capture_surface(surface: Any) -> dict[str, Any]:
    """Format, settings and pixels; for a part of another picture, that picture and the place in it."""
    parent = surface.get_parent()
    if parent is not None:
        place = [*surface.get_offset(), *surface.get_size()]
        return {"form": surface_form(surface), "parent": parent, "place": place}
    if _is_opengl(surface):
        return {"form": surface_form(surface)}  # its pixels belong to the graphics card, and are drawn anew
    content = surface.get_buffer().raw
    return {
        "form": _form(surface, None if _is_display(surface) else content),
        "format": _format(surface),
        "settings": _settings(surface),
        "pixels": np.frombuffer(content, np.uint8),
    }


def restore_surface(surface: Any, saved: Mapping[str, Any]) -> None:
    """Write pixels and settings into a picture of the same format.

    :raises ValueError: if the picture has another number of pixels.
    """
    if "parent" in saved:
        if surface.get_parent() is not saved["parent"]:
            raise ValueError("expected a part of the same picture, found a part of another one")
        return
    if _is_opengl(surface):
        return
    buffer, pixels = surface.get_buffer(), saved["pixels"]
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape == (buffer.length,)):
        raise ValueError(f"expected {buffer.length} bytes of pixels")
    buffer.write(pixels.tobytes(), 0)
    del buffer  # a picture is locked as long as its buffer exists
    settings = saved["settings"]
    if settings["palette"] is not None and surface.get_bitsize() == 8:
        surface.set_palette(settings["palette"])
    surface.set_colorkey(settings["colorkey"])
    surface.set_alpha(settings["alpha"])
    surface.set_clip(settings["clip"])


def create_surface(saved: Mapping[str, Any]) -> Any:
    """A new picture with this content; None for the display's, which only the script can open."""
    import pygame

    if "parent" in saved:
        return saved["parent"].subsurface(saved["place"])
    if str(saved["form"]).startswith(_ON_DISPLAY):
        return None
    width, height, bits, flags, *masks = saved["format"]
    if any(type(each) is not int for each in saved["format"]) or not (
        0 <= width * height < _MOST_PIXELS and bits in (8, 16, 24, 32)
    ):
        raise ValueError(f"expected the format of a picture, found {saved['format']!r:.80}")
    masks = [mask & 0xFFFFFFFF for mask in masks]
    surface = pygame.Surface(
        (width, height), flags & _kept_flags(), bits, masks if bits > 8 else (0, 0, 0, 0)
    )
    restore_surface(surface, saved)
    return surface


# -- masks, rectangles, vectors, colours ---------------------------------------------------------------------


def mask_form(mask: Any) -> str:
    """The size of a mask."""
    return str(mask.get_size())


def capture_mask(mask: Any) -> dict[str, Any]:
    """Size and bits."""
    return {
        "form": mask_form(mask),
        "size": list(mask.get_size()),
        "bits": np.frombuffer(bytes(memoryview(mask)), np.uint8),
    }


def restore_mask(mask: Any, saved: Mapping[str, Any]) -> None:
    """Write bits into a mask of the same size."""
    view = memoryview(mask).cast("B")
    if saved["bits"].dtype != np.uint8 or saved["bits"].shape != (len(view),):
        raise ValueError(f"expected {len(view)} bytes of a mask")
    view[:] = saved["bits"].tobytes()


def create_mask(saved: Mapping[str, Any]) -> Any:
    """A new mask with these bits."""
    import pygame

    width, height = saved["size"]
    if not (type(width) is int and type(height) is int and 0 <= width * height < _MOST_PIXELS):
        raise ValueError(f"expected the size of a mask, found {saved['size']!r:.80}")
    mask = pygame.mask.Mask((width, height))
    restore_mask(mask, saved)
    return mask


def capture_numbers(thing: Any) -> list[Any]:
    """The numbers of which a rectangle, vector or colour consists."""
    return list(thing)


def restore_numbers(thing: Any, saved: list[Any]) -> None:
    """Give a rectangle, vector or colour other numbers."""
    thing.update(*saved)


def _creator(name: str) -> Callable[[list[Any]], Any]:
    def create(saved: list[Any]) -> Any:
        import pygame

        return getattr(pygame, name)(*saved)

    return create


for _name in ("pygame.surface.Surface", "pygame.Surface"):
    register_handler(_name, Handler(capture_surface, restore_surface, create_surface, surface_form))
for _name in ("pygame.mask.Mask", "pygame.Mask"):
    register_handler(_name, Handler(capture_mask, restore_mask, create_mask, mask_form))
for _name in ("rect.Rect", "rect.FRect", "math.Vector2", "math.Vector3", "color.Color"):
    _class = _name.partition(".")[2]
    for _module in (_name, _class):
        register_handler(
            f"pygame.{_module}",
            Handler(capture=capture_numbers, restore=restore_numbers, create=_creator(_class)),
        )
for _reason, _names in {
    "a typeface": ("font.Font", "ftfont.Font", "freetype.Font"),
    "a sound": ("mixer.Sound", "mixer.Channel"),
    "an input device": ("joystick.JoystickType",),
    "a window": ("_sdl2.video.Window",),
}.items():
    for _name in _names:
        skip(f"pygame.{_name}", _reason)

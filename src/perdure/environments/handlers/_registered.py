"""What is known about environment libraries: by dotted class name, so that none is imported to be known.

Each entry says how objects of a class are taken; the code that does it imports the library when it is first used.
"""

from __future__ import annotations

from perdure.environments.handlers import (
    _atari,
    _camera,
    _get_set_state,
    _mujoco,
    _native_handles,
    _pygame,
    _toy_text,
)
from perdure.state import (
    Adapter,
    Handler,
    finders,
    leave_out,
    refuse,
    register,
    register_adapter,
    register_handler,
    skip,
)

DRAWN_ANEW = "what pictures are drawn with, made anew where one is wanted"


class _Every:
    """All names."""

    def __contains__(self, name: object) -> bool:
        return True


def _register_mujoco() -> None:
    register_adapter("mujoco._structs.MjModel", Adapter(_mujoco.model_fields, _mujoco.model_assign, _Every()))
    register_adapter("mujoco._structs.MjData", Adapter(_mujoco.data_fields, _mujoco.data_assign))
    register_handler(
        _mujoco.Simulation,
        Handler(_mujoco.capture_simulation, _mujoco.restore_simulation, form=_mujoco.simulation_form),
    )
    register("mujoco._structs.MjvCamera", capture=_camera.capture_camera, restore=_camera.restore_camera)
    for name in ("_structs.MjvScene", "_structs.MjvOption", "_structs.MjvPerturb", "_render.MjrContext"):
        skip(f"mujoco.{name}", DRAWN_ANEW)
    for name in ("egl.GLContext", "glfw.GLContext", "osmesa.GLContext", "cgl.GLContext", "renderer.Renderer"):
        skip(f"mujoco.{name}", DRAWN_ANEW)
    skip("mujoco._specs.MjSpec", "a description that models are made from")
    leave_out("gymnasium.envs.mujoco.mujoco_rendering.MujocoRenderer", ("viewer", "_viewers"), DRAWN_ANEW)
    # Arrays by the names of their rows, all of them windows onto the data and the model.
    leave_out("dm_control.mujoco.engine.Physics", ("_named", "_contexts"), "windows onto the simulation")


def _register_atari() -> None:
    register_handler(
        "ale_py._ale_py.ALEInterface",
        Handler(_atari.capture_emulator, _atari.restore_emulator, form=_atari.emulator_form),
    )


def _register_pygame() -> None:
    for name in ("pygame.surface.Surface", "pygame.Surface"):
        register_handler(
            name,
            Handler(
                _pygame.capture_surface, _pygame.restore_surface, _pygame.create_surface, _pygame.surface_form
            ),
        )
    for name in ("pygame.mask.Mask", "pygame.Mask"):
        register_handler(
            name, Handler(_pygame.capture_mask, _pygame.restore_mask, _pygame.create_mask, _pygame.mask_form)
        )
    for module, cls, restore in (
        ("rect", "Rect", _pygame.restore_rect),
        ("rect", "FRect", _pygame.restore_rect),
        ("math", "Vector2", _pygame.restore_vector),
        ("math", "Vector3", _pygame.restore_vector),
        ("color", "Color", _pygame.restore_colour),
    ):
        for name in (f"pygame.{module}.{cls}", f"pygame.{cls}"):
            register(
                name, capture=_pygame.capture_numbers, restore=restore, create=_pygame.create_numbers(cls)
            )
    for name, reason in (
        ("pygame.font.Font", "a typeface"),
        ("pygame.ftfont.Font", "a typeface"),
        ("pygame.freetype.Font", "a typeface"),
        ("pygame.mixer.Sound", "a sound"),
        ("pygame.mixer.Channel", "a sound"),
        ("pygame.joystick.JoystickType", "an input device"),
        ("pygame._sdl2.video.Window", "a window"),
    ):
        skip(name, reason)


def _register_screens() -> None:
    """Pictures for people: no observation reads them, and what is drawn on them is drawn anew for each frame."""
    for name in (
        "gymnasium.envs.classic_control.cartpole.CartPoleEnv",
        "gymnasium.envs.classic_control.cartpole.CartPoleVectorEnv",
        "gymnasium.envs.classic_control.pendulum.PendulumEnv",
        "gymnasium.envs.classic_control.acrobot.AcrobotEnv",
        "gymnasium.envs.classic_control.mountain_car.MountainCarEnv",
        "gymnasium.envs.classic_control.continuous_mountain_car.Continuous_MountainCarEnv",
    ):
        leave_out(name, ("screen", "screens", "surf"), DRAWN_ANEW)
    toys = (
        "frozen_lake.FrozenLakeEnv",
        "cliffwalking.CliffWalkingEnv",
        "taxi.TaxiEnv",
        "blackjack.BlackjackEnv",
    )
    for name in toys:
        leave_out(f"gymnasium.envs.toy_text.{name}", ("window", "window_surface", "screen"), DRAWN_ANEW)
    for name in toys[:3]:
        register_adapter(
            f"gymnasium.envs.toy_text.{name}", Adapter(_toy_text.fields, _toy_text.assign, frozenset({"P"}))
        )
    for name in ("mpe2._mpe_utils.simple_env.SimpleEnv", "pettingzoo.mpe._mpe_utils.simple_env.SimpleEnv"):
        leave_out(name, ("screen", "viewer"), DRAWN_ANEW)
    for name in (
        "gymnasium.wrappers.rendering.RecordVideo",
        "gymnasium.wrappers.vector.rendering.RecordVideo",
    ):
        leave_out(name, ("recorded_frames",), "frames of a film")
    leave_out("minigrid.minigrid_env.MiniGridEnv", ("window",), DRAWN_ANEW)
    leave_out("highway_env.envs.common.abstract.AbstractEnv", ("viewer",), DRAWN_ANEW)


def _register_handles() -> None:
    refuse(_native_handles.Simulation, _native_handles.REMEDY.format(library="pybullet"))
    for name in (
        "pybullet_utils.bullet_client.BulletClient",
        "pybullet_envs.bullet.bullet_client.BulletClient",
    ):
        refuse(name, _native_handles.REMEDY.format(library="pybullet"))


_register_mujoco()
_register_atari()
_register_pygame()
_register_screens()
_register_handles()
finders += (_get_set_state.find, _native_handles.find)

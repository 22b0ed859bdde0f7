"""What is known about environment libraries: by dotted class name, so that none is imported to be known.

Each entry says how objects of a class are taken; the code that does it imports the library when it is first used.
"""

from __future__ import annotations

from perdure.environments import atari, camera, handles, hooks, mujoco, pygame, tables
from perdure.state.registry import (
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


def _mujoco() -> None:
    register_adapter("mujoco._structs.MjModel", Adapter(mujoco.model_fields, mujoco.model_assign, _Every()))
    register_adapter("mujoco._structs.MjData", Adapter(mujoco.data_fields, mujoco.data_assign))
    register_handler(
        mujoco.Simulation,
        Handler(mujoco.capture_simulation, mujoco.restore_simulation, form=mujoco.simulation_form),
    )
    register("mujoco._structs.MjvCamera", capture=camera.capture_camera, restore=camera.restore_camera)
    for name in ("_structs.MjvScene", "_structs.MjvOption", "_structs.MjvPerturb", "_render.MjrContext"):
        skip(f"mujoco.{name}", DRAWN_ANEW)
    for name in ("egl.GLContext", "glfw.GLContext", "osmesa.GLContext", "cgl.GLContext", "renderer.Renderer"):
        skip(f"mujoco.{name}", DRAWN_ANEW)
    skip("mujoco._specs.MjSpec", "a description that models are made from")
    leave_out("gymnasium.envs.mujoco.mujoco_rendering.MujocoRenderer", ("viewer", "_viewers"), DRAWN_ANEW)
    # Arrays by the names of their rows, all of them windows onto the data and the model.
    leave_out("dm_control.mujoco.engine.Physics", ("_named", "_contexts"), "windows onto the simulation")


def _atari() -> None:
    register_handler(
        "ale_py._ale_py.ALEInterface",
        Handler(atari.capture_emulator, atari.restore_emulator, form=atari.emulator_form),
    )


def _pygame() -> None:
    for name in ("pygame.surface.Surface", "pygame.Surface"):
        register_handler(
            name,
            Handler(
                pygame.capture_surface, pygame.restore_surface, pygame.create_surface, pygame.surface_form
            ),
        )
    for name in ("pygame.mask.Mask", "pygame.Mask"):
        register_handler(
            name, Handler(pygame.capture_mask, pygame.restore_mask, pygame.create_mask, pygame.mask_form)
        )
    for module, cls, restore in (
        ("rect", "Rect", pygame.restore_rect),
        ("rect", "FRect", pygame.restore_rect),
        ("math", "Vector2", pygame.restore_vector),
        ("math", "Vector3", pygame.restore_vector),
        ("color", "Color", pygame.restore_colour),
    ):
        for name in (f"pygame.{module}.{cls}", f"pygame.{cls}"):
            register(name, capture=pygame.capture_numbers, restore=restore, create=pygame.create_numbers(cls))
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


def _screens() -> None:
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
            f"gymnasium.envs.toy_text.{name}", Adapter(tables.fields, tables.assign, frozenset({"P"}))
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


def _handles() -> None:
    refuse(handles.Simulation, handles.REMEDY.format(library="pybullet"))
    for name in (
        "pybullet_utils.bullet_client.BulletClient",
        "pybullet_envs.bullet.bullet_client.BulletClient",
    ):
        refuse(name, handles.REMEDY.format(library="pybullet"))


_mujoco()
_atari()
_pygame()
_screens()
_handles()
finders += (hooks.find, handles.find)

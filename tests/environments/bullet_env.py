"""An environment of one's own on PyBullet, whose state hides behind the number of a connection."""

import gymnasium as gym
import numpy as np
import pybullet
import pybullet_data


class Pole(gym.Env):
    """Balance a pole that stands on a cart.

    :param own_world: whether each reset clears the engine's world, or puts the bodies of the same one back.
    """

    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = gym.spaces.Box(-np.inf, np.inf, (5,), np.float64)

    def __init__(self, own_world=True):
        self.own_world = own_world
        self.client = pybullet.connect(pybullet.DIRECT)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.body = None

    def _load(self):
        options = {"physicsClientId": self.client}
        pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), **options)
        pybullet.setGravity(0, 0, -9.8, **options)
        self.floor = pybullet.loadURDF("plane.urdf", [0, 0, -0.3], **options)
        self.body = pybullet.loadURDF("cartpole.urdf", **options)
        self.balls = [
            pybullet.loadURDF("sphere_small.urdf", [self.np_random.uniform(-1, 1), 0, 0.5 + n / 3], **options)
            for n in range(3)
        ]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.own_world or self.body is None:
            pybullet.resetSimulation(physicsClientId=self.client)
            self._load()
        for joint in (0, 1):
            start = self.np_random.uniform(-0.2, 0.2)
            pybullet.resetJointState(self.body, joint, start, 0, physicsClientId=self.client)
            pybullet.setJointMotorControl2(
                self.body, joint, pybullet.VELOCITY_CONTROL, force=0, physicsClientId=self.client
            )
        return self._observation(), {}

    def step(self, action):
        force = 20 * float(action[0]) + self.np_random.normal()
        pybullet.setJointMotorControl2(
            self.body, 0, pybullet.TORQUE_CONTROL, force=force, physicsClientId=self.client
        )
        pybullet.stepSimulation(physicsClientId=self.client)
        observation = self._observation()
        return observation, 1.0 - abs(observation[2]), bool(abs(observation[2]) > 1.2), False, {}

    def _observation(self):
        places = [
            pybullet.getBasePositionAndOrientation(ball, physicsClientId=self.client)[0]
            for ball in self.balls
        ]
        joints = [
            pybullet.getJointState(self.body, joint, physicsClientId=self.client)[:2] for joint in (0, 1)
        ]
        return np.array([*np.ravel(joints), np.sum(places)])

    def close(self):
        pybullet.disconnect(self.client)

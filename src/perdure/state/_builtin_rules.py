"""Rules for classes of Python and of common libraries: what is left out of every checkpoint and why, what cannot be
captured, and what only the script builds. Knows no walks and no files."""

from __future__ import annotations

import collections
import concurrent.futures
import io
import logging
import threading
import time
import types
import weakref

import torch

from perdure.state._added_attributes import adapter_for
from perdure.state._references import allow
from perdure.state._registry import (
    ENVIRONMENTS,
    OPAQUE,
    leave_out,
    partial,
    rebuildable,
    refuse,
    skip,
    skip_but_added,
    structural,
)
from perdure.state._secrets import ENVIRONMENT

WALL_CLOCK = "a moment of this process's clock"
PROCESS = (
    "its state lies in another process. Gymnasium's AsyncVectorEnv, SubprocVecEnv and Tianshou's SubprocVectorEnv are "
    "captured as a whole, with perdure.environments.Resumable around each environment"
)

for cls, reason in (
    (property, "a property"),
    (types.GetSetDescriptorType, "a property"),
    (types.MemberDescriptorType, "a property"),
    ("_abc._abc_data", "a class"),
    (types.GenericAlias, "a type"),
    (types.UnionType, "a type"),
    ("typing._Final", "a type"),
    ("functools.cached_property", "a function"),
    ("multiprocessing.synchronize.SemLock", "a lock"),
    ("multiprocessing.synchronize.Condition", "a lock"),
    ("_csv.writer", "an open file"),
    ("_csv.Writer", "an open file"),
    (weakref.ProxyType, "a weak reference"),
    ("tempfile.TemporaryDirectory", "a directory of this process"),
    ("os._Environ", ENVIRONMENT),
    ("torch.utils.hooks.RemovableHandle", "a hook"),
    ("rich.console.Console", "a terminal"),
    ("pygame.time.Clock", "a clock of the display"),
    ("wandb.sdk.wandb_run.Run", "a writer of logs"),
):
    skip(cls, reason)
partly: type | str
for partly, reason in (
    (threading.Thread, "a thread"),
    (concurrent.futures.Executor, "workers"),
    (io.IOBase, "an open file"),
    ("_io._IOBase", "an open file"),
    (logging.Logger, "a logger"),
    (logging.Handler, "a logger"),
    (logging.LoggerAdapter, "a logger"),
    ("torch.utils.tensorboard.writer.SummaryWriter", "a writer of logs"),
    ("tensorboardX.writer.SummaryWriter", "a writer of logs"),
):
    skip_but_added(partly, reason)
partial.append(adapter_for)
for other in (
    "multiprocessing.process.BaseProcess",
    "subprocess.Popen",
    "tianshou.env.worker.subproc.SubprocEnvWorker",
    "tianshou.env.worker.ray.RayEnvWorker",
):
    refuse(other, f"{PROCESS}. Leave out what needs no state: perdure.skip({other!r}, 'reason')")
refuse("socket.socket", "it is a connection. Leave it out: perdure.skip('socket.socket', 'reason')")
refuse(
    "concurrent.futures._base.Future",
    "a thread is computing it. Wait for its result before the checkpoint, and keep the result",
)
refuse(
    "pybullet_utils.bullet_client.BulletClient",
    OPAQUE.format(name="'pybullet_utils.bullet_client.BulletClient'"),
)
refuse("numpy.ma.MaskedArray", "masked arrays are not supported. Keep data and mask as two arrays")
for name in (
    "gymnasium.vector.vector_env.VectorEnv",
    "gymnasium.vector.vector_env.VectorWrapper",
    "stable_baselines3.common.vec_env.base_vec_env.VecEnv",
    "tianshou.env.venvs.BaseVectorEnv",
    "tianshou.env.worker.worker_base.EnvWorker",
    *ENVIRONMENTS,
):
    structural(name)
structural(torch.nn.Module)
made: type | str
for made in (
    torch.distributions.Distribution,
    torch.distributions.Transform,
    collections.Counter,
    types.SimpleNamespace,
    "tianshou.data.batch.Batch",
    "argparse.Namespace",
    collections.ChainMap,
    collections.UserDict,
    collections.UserList,
    collections.UserString,
    "statistics.NormalDist",
    # Hooks that change a module's weights before each step.
    "torch.nn.utils.prune.BasePruningMethod",
    "torch.nn.utils.spectral_norm.SpectralNorm",
    "torch.nn.utils.spectral_norm.SpectralNormLoadStateDictPreHook",
    "torch.nn.utils.spectral_norm.SpectralNormStateDictHook",
    "torch.nn.utils.weight_norm.WeightNorm",
    torch.amp.GradScaler,
    torch.cuda.amp.GradScaler,
):
    rebuildable(made)
allow(vars(torch.amp.grad_scaler)["_refresh_per_optimizer_state"])  # it makes a dict
refuse(
    torch.jit.ScriptModule,
    "a script module lies in native code. It shares its parameters and buffers with the module that it was made from: "
    "keep that one in the world, with an optimizer made for it, and leave this one out: "
    "perdure.skip(torch.jit.ScriptModule, 'it shares the parameters of a module of the world')",
)
leave_out(torch.nn.Module, ("__overloads__",), "what torch.jit.script notes", fresh=dict)
leave_out(
    "torch.nn.modules.module._WrappedHook",
    ("__wrapped__", "__doc__", "__module__", "__name__", "__qualname__", "__annotations__"),
    "what Python notes about a function",
    fresh=lambda: None,
)
for name, attributes in (
    ("gymnasium.wrappers.common.RecordEpisodeStatistics", ("episode_start_time",)),
    ("gymnasium.wrappers.vector.common.RecordEpisodeStatistics", ("episode_start_times",)),
    ("stable_baselines3.common.monitor.Monitor", ("t_start",)),
    ("stable_baselines3.common.vec_env.vec_monitor.VecMonitor", ("t_start",)),
):
    leave_out(name, attributes, WALL_CLOCK)
leave_out(
    "networkx.classes.graph.Graph",
    ("adj", "nodes", "edges", "degree", "succ", "pred", "in_edges", "out_edges", "in_degree", "out_degree"),
    "a view of the graph, made when it is needed",
)
leave_out("networkx.classes.graph.Graph", ("__networkx_cache__",), "a cache", fresh=dict)
leave_out(
    "stable_baselines3.common.base_class.BaseAlgorithm", ("start_time",), WALL_CLOCK, fresh=time.time_ns
)
leave_out("tianshou.trainer.Trainer", ("_start_time",), WALL_CLOCK, fresh=time.time)

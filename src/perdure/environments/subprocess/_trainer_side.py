"""Environments in worker processes, seen from the training process: Gymnasium's AsyncVectorEnv, SB3's SubprocVecEnv and
Tianshou's vector environments, including Ray's actors. Knows how each passes on a question, and no files.

All workers are asked at once, through the pipes that the library itself uses, and every answer is received before
anything is decided: whatever goes wrong, the pipes stay in step. `_worker_side` answers.

A checkpoint asks each worker once ("capture"). Resuming asks three questions: "capture", during the walk; "check",
because nothing may be changed anywhere before everything everywhere fits; and "restore".
"""

from __future__ import annotations

import functools
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

from perdure.errors import CaptureError, PerdureError, RestoreError
from perdure.state import Adapter, attributes_of, base_names, register_adapter, structural
from perdure.tree import SequenceNode, message
from perdure.tree.message import EncodedState

#: How long a worker may take to answer, in seconds, before it counts as hung; restoring may replay an episode.
PATIENCE = 120.0
PATIENCE_RESTORING = 3600.0
#: How often to look whether a worker that does not answer is still there.
_GLANCE = 0.2

#: The field that holds the states of the processes, beside the vector environment's own attributes.
PROCESSES = "processes"


@dataclass(frozen=True)
class Workers:
    """The workers of one vector environment, and how to ask them.

    :param pipes: the ends of their pipes on this side.
    :param processes: of the workers.
    :param probe: the command that asks whether an environment is wrapped, without harm if it is not.
    :param question: makes a command of the arguments of `Resumable.perdure_answer`.
    :param answer: takes the environment's return value from what the library's worker sends back.
    :param remedy: the line that makes such environments resumable.
    :param variables: which variables of the worker's loop belong to its state.
    :param last: each environment's last observation, if the worker's loop does not keep it.
    :param settling: commands that give the worker's loop its variables back after restoring.
    :param exchange: sends a command to each worker, if that does not go through pipes. It returns the answers, and by
        index the reasons why some are missing.
    """

    pipes: Sequence[Any]
    processes: Sequence[Any]
    probe: Any
    question: Callable[[dict[str, Any]], Any]
    answer: Callable[[Any], Any]
    remedy: str
    variables: tuple[str, ...] = ()
    last: Sequence[Any] | None = None
    settling: tuple[Any, ...] = ()
    exchange: Callable[[Sequence[Any], float], tuple[list[Any], dict[int, str]]] | None = None


# -- asking --------------------------------------------------------------------------------------------------


def ask(
    workers: Workers, commands: Sequence[Any], patience: float, error: type[PerdureError] = CaptureError
) -> list[Any]:
    """Send each worker a command, then receive all answers.

    A worker that does not answer in time is killed: a late answer would be taken for that to the next question.

    :raises PerdureError: of class `error`, if a worker died or hangs; it says which.
    """
    answers, lost = (workers.exchange or functools.partial(_through_pipes, workers))(commands, patience)
    if lost:
        raise error(
            "environments in worker processes did not answer:"
            + "".join(f"\n    environment {index}: {lost[index]}" for index in sorted(lost))
            + "\n  Start the script again: it goes on from its last checkpoint"
        )
    return answers


def _through_pipes(
    workers: Workers, commands: Sequence[Any], patience: float
) -> tuple[list[Any], dict[int, str]]:
    lost: dict[int, str] = {}
    answers: list[Any] = [None] * len(commands)
    # Those that may have an answer in the pipe that nobody has received.
    asked: set[int] = set()
    try:
        _exchange(workers, commands, patience, answers, lost, asked)
    except BaseException:
        # Interrupted: a later step would take the answer for its own. So it gets an error.
        for index in asked:
            workers.pipes[index].close()
        raise
    for index in lost:
        # A later step gets an error at once instead of waiting for ever.
        if workers.pipes[index] is not None:
            workers.pipes[index].close()
    return answers, lost


def _exchange(
    workers: Workers,
    commands: Sequence[Any],
    patience: float,
    answers: list[Any],
    lost: dict[int, str],
    asked: set[int],
) -> None:
    written: dict[int, Any] = {}
    for index, (pipe, command) in enumerate(zip(workers.pipes, commands, strict=True)):
        if id(command) not in written:
            # Pickled as the pipe would do it, but only once for a question to all.
            written[id(command)] = ForkingPickler.dumps(command)
        try:
            asked.add(index)
            pipe.send_bytes(written[id(command)])
        except (OSError, ValueError, AttributeError) as reason:  # None if the library gave the worker up
            lost[index] = _ended(workers, index, reason)
    until = time.monotonic() + patience
    for index, pipe in enumerate(workers.pipes):
        if index in lost:
            continue
        try:
            if _has_answered(pipe, workers.processes[index], until):
                received = pipe.recv()
                asked.discard(index)
                answers[index] = workers.answer(received)
            else:
                workers.processes[index].kill()
                lost[index] = f"it gave no answer within {patience:g} s and was ended"
        except (EOFError, OSError) as reason:
            lost[index] = _ended(workers, index, reason)
        except _Raised:
            lost[index] = "its worker ended with an error, which it has printed"


def _has_answered(pipe: Any, process: Any, until: float) -> bool:
    """Wait for a worker, and return whether it answered in time.

    :raises EOFError: if it ended without an answer.
    """
    while not pipe.poll(max(0.0, min(_GLANCE, until - time.monotonic()))):
        # Forked workers hold each other's ends of the pipes, so the end of one may show only here.
        if process.exitcode is not None and not pipe.poll():
            raise EOFError("no answer")
        if time.monotonic() >= until:
            return False
    return True


class _Raised(Exception):
    """A worker's loop raised, and has ended."""


def _ended(workers: Workers, index: int, reason: Exception) -> str:
    process = workers.processes[index]
    process.join(1.0)
    if process.exitcode is None:
        return f"its process cannot be reached ({type(reason).__name__}: {reason})"
    how = f"a signal ({-process.exitcode})" if process.exitcode < 0 else f"exit code {process.exitcode}"
    return f"its process has ended, by {how}"


_wrapped: weakref.WeakSet[Any] = weakref.WeakSet()
#: The structure of the state of a vector's first environment, which the others usually have too.
_forms: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def _questions(
    env: Any,
    workers: Workers,
    patience: float,
    error: type[PerdureError],
    questions: Sequence[dict[str, Any]],
) -> list[Any]:
    """Ask each worker's wrapper a question, and return the answers."""
    if env not in _wrapped:
        found = ask(workers, [workers.probe] * len(workers.pipes), patience, error)
        bare = [index for index, yes in enumerate(found) if yes is not True]
        if bare:
            raise error(
                f"environment(s) {_listed(bare)} of {len(found)} run in worker processes and cannot be asked "
                f"for their state. Wrap them where they are made: {workers.remedy}"
            )
        _wrapped.add(env)
    commands = {id(each): workers.question(each) for each in questions}
    answers = ask(workers, [commands[id(each)] for each in questions], patience, error)
    failed = [(index, said) for index, (status, said) in enumerate(answers) if status != "done"]
    if failed:
        raise error(
            "environments in worker processes:"
            + "".join(f"\n    environment {index}: {_indented(said)}" for index, said in failed[:4])
            + (f"\n    and {len(failed) - 4} more" if len(failed) > 4 else "")
        )
    return [said for _, said in answers]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", \N{HORIZONTAL ELLIPSIS}" if len(numbers) > 8 else "")


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")


def states(env: Any, workers: Workers) -> list[EncodedState]:
    """The states of all workers' environments.

    :raises CaptureError: if one cannot be had; it says which and why.
    """
    known = _forms.get(env)
    question: dict[str, Any] = {"request": "capture", "variables": workers.variables}
    if known is not None:
        question["known"] = message.structure_digest(known)
    answers = _questions(env, workers, PATIENCE, CaptureError, [question] * len(workers.pipes))
    found = [message.from_bytes(content, known) for content in answers]
    message.share_parts(found)
    if found:
        _forms[env] = found[0]["form"]
    return found


def misfits(env: Any, workers: Workers, saved: Sequence[EncodedState]) -> list[tuple[str, str]]:
    """What does not fit the workers' environments in saved states, as pairs of a path below the vector and a detail."""
    questions = [
        {"request": "check", "variables": workers.variables, "content": message.to_bytes(each)}
        for each in saved
    ]
    answers = _questions(env, workers, PATIENCE, RestoreError, questions)
    return [
        (f".{PROCESSES}[{index}].{path}", detail)
        for index, problems in enumerate(answers)
        for path, detail in problems
    ]


def restore(env: Any, workers: Workers, saved: Sequence[EncodedState]) -> None:
    """Write saved states into the workers' environments, and give the workers' loops their variables back.

    :raises RestoreError: if a worker could not; the others are restored.
    """
    if len(saved) != len(workers.pipes):
        raise RestoreError(
            f"the checkpoint has {len(saved)} environments in worker processes, the script {len(workers.pipes)}"
        )
    last = workers.last or [None] * len(saved)
    questions = [
        {
            "request": "restore",
            "variables": workers.variables,
            "content": message.to_bytes(each),
            "last": last[index],
            "calls": len(workers.settling),
        }
        for index, each in enumerate(saved)
    ]
    _questions(env, workers, PATIENCE_RESTORING, RestoreError, questions)
    for command in workers.settling:
        ask(workers, [command] * len(saved), PATIENCE, RestoreError)


# -- Gymnasium -----------------------------------------------------------------------------------------------


def _gymnasium(env: Any) -> Workers:
    if env._state.value != "default":
        raise CaptureError(
            f"its environments are in the middle of a {env._state.value}; checkpoint after {env._state.value}_wait"
        )
    if env.worker is not None:
        raise CaptureError(
            "its workers run a function of the script's (worker=...), whose variables cannot be seen. Use Gymnasium's"
        )
    last = None
    if env.shared_memory:
        from gymnasium.vector.utils import iterate

        last = list(iterate(env.observation_space, env.observations))
    return Workers(
        pipes=env.parent_pipes,
        processes=env.processes,
        probe=("_call", ("has_wrapper_attr", ("perdure_answer",), {})),
        question=lambda words: ("_call", ("perdure_answer", (), words)),
        answer=_gymnasium_answer,
        remedy="AsyncVectorEnv([lambda: perdure.environments.Resumable(gym.make(...)), ...]), or "
        "gym.make_vec(..., wrappers=[perdure.environments.Resumable])",
        # Whether the next step is a reset, and the observation that an environment repeats when only others are reset.
        variables=("autoreset", "observation"),
        last=last,
        settling=(("step", None), ("step", None)),
    )


def _gymnasium_answer(received: Any) -> Any:
    said, well = received
    if not well:
        raise _Raised
    return said


# -- Stable-Baselines3 ---------------------------------------------------------------------------------------


def _sb3(env: Any) -> Workers:
    if env.waiting:
        raise CaptureError("its environments are in the middle of a step; checkpoint after step_wait")
    return Workers(
        pipes=env.remotes,
        processes=env.processes,
        probe=("has_attr", "perdure_answer"),
        question=lambda words: ("env_method", ("perdure_answer", (), words)),
        answer=lambda received: received,
        remedy="make_vec_env(..., vec_env_cls=SubprocVecEnv, wrapper_class=perdure.environments.Resumable), or "
        "SubprocVecEnv([lambda: perdure.environments.Resumable(gym.make(...)), ...])",
        variables=("reset_info",),
        settling=(("reset", (None, None)),),
    )


# -- Tianshou ------------------------------------------------------------------------------------------------

_TIANSHOU_OWN = ("action_space", "is_reset", "is_closed")


def _in_processes(env: Any) -> bool:
    """Whether a Tianshou environment's workers are processes; its wrappers have none, and others live here."""
    own = vars(env).get("workers", ())
    return bool(own) and (all(hasattr(worker, "parent_remote") for worker in own) or all(map(_is_actor, own)))


def _is_actor(worker: Any) -> bool:
    return "tianshou.env.worker.ray.RayEnvWorker" in base_names(type(worker))


def _tianshou(env: Any) -> Workers:
    own = env.workers
    if env.waiting_id:
        raise CaptureError(
            f"environment(s) {_listed(env.waiting_id)} are in the middle of a step that was not waited for; what a "
            "process does meanwhile cannot be captured. Use the vector environment without wait_num and timeout"
        )
    if _is_actor(own[0]):
        return _actors(own)
    return Workers(
        pipes=[worker.parent_remote for worker in own],
        processes=[worker.process for worker in own],
        probe=["getattr", "perdure_resumable"],
        question=lambda words: ["render", words],
        answer=lambda received: received,
        remedy="SubprocVectorEnv([lambda: perdure.environments.Resumable(gym.make(...)), ...])",
    )


def _actors(own: Sequence[Any]) -> Workers:
    from perdure.environments.subprocess._worker_side import QUESTION

    actors = [worker.env for worker in own]
    return Workers(
        pipes=actors,
        processes=(),
        probe=("get_env_attr", ("perdure_resumable",), {}),
        # An actor's environment accepts only actions and the arguments of a reset.
        question=lambda words: ("reset", (), {"options": {QUESTION: words}}),
        answer=lambda received: received,
        remedy="RayVectorEnv([lambda: perdure.environments.Resumable(gym.make(...)), ...])",
        exchange=functools.partial(_through_ray, actors),
    )


def _through_ray(
    actors: Sequence[Any], commands: Sequence[Any], patience: float
) -> tuple[list[Any], dict[int, str]]:
    import ray

    answers: list[Any] = [None] * len(commands)
    lost: dict[int, str] = {}
    sent = [
        getattr(actor, method).remote(*args, **words)
        for actor, (method, args, words) in zip(actors, commands, strict=True)
    ]
    late = set(ray.wait(sent, num_returns=len(sent), timeout=patience)[1])
    for index, (actor, each) in enumerate(zip(actors, sent, strict=True)):
        if each in late:
            ray.kill(actor)
            lost[index] = f"it gave no answer within {patience:g} s and was ended"
            continue
        try:
            answers[index] = ray.get(each)
        except ray.exceptions.RayTaskError:
            continue  # the environment does not know the question
        except ray.exceptions.RayError as error:
            lost[index] = f"its actor is gone ({type(error).__name__})"
    return answers, lost


# -- how vector environments are walked ----------------------------------------------------------------------


def _adapter(
    reach: Callable[[Any], Workers],
    ends: Iterable[str],
    of_each: tuple[str, ...] = (),
    elsewhere: Callable[[Any], bool] = lambda env: True,
) -> Adapter:
    """Walks a vector environment: its own attributes, and the states of the processes.

    :param reach: how to speak to its workers.
    :param ends: attributes that are only this side's ends of the connections.
    :param of_each: attributes of each of its `workers`, where it has objects for them.
    :param elsewhere: whether its environments are in other processes; if not, it is walked like any other object.
    """

    def fields(env: Any) -> Mapping[str, Any]:
        attributes = attributes_of(env)
        if not elsewhere(env):
            return attributes
        found = {name: value for name, value in attributes.items() if name not in ends}
        if of_each:
            own = attributes["workers"]
            found["workers"] = [{name: vars(worker)[name] for name in of_each} for worker in own]
        closed = attributes.get("closed") or attributes.get("is_closed")
        found[PROCESSES] = [] if closed else states(env, reach(env))
        return found

    def assign(env: Any, name: str, value: Any) -> None:
        if not elsewhere(env):
            vars(env)[name] = value
        elif name == PROCESSES:
            if value:
                restore(env, reach(env), value)
        elif name == "workers":
            for worker, attributes in zip(env.workers, value, strict=True):
                vars(worker).update((each, attributes[each]) for each in of_each)
        else:
            vars(env)[name] = value

    def check(env: Any, nodes: Mapping[str, Any]) -> list[tuple[str, str]]:
        node = nodes.get(PROCESSES)
        if not elsewhere(env) or not isinstance(node, SequenceNode) or not node.items:
            return []
        workers = reach(env)
        # Another number of them is an error by itself.
        if len(node.items) != len(workers.pipes):
            return []
        return misfits(env, workers, [message.from_node(each) for each in node.items])

    return Adapter(fields, assign, frozenset({PROCESSES, "workers"}), check=check)


structural(EncodedState)
register_adapter(
    "gymnasium.vector.async_vector_env.AsyncVectorEnv",
    _adapter(_gymnasium, ("parent_pipes", "processes", "error_queue")),
)
register_adapter(
    "stable_baselines3.common.vec_env.subproc_vec_env.SubprocVecEnv",
    _adapter(_sb3, ("remotes", "work_remotes", "processes")),
)
register_adapter("tianshou.env.venvs.BaseVectorEnv", _adapter(_tianshou, (), _TIANSHOU_OWN, _in_processes))

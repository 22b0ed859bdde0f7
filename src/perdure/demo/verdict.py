"""What two runs ended with, compared path by path and bit by bit, and sorted by what a person would ask for.

It knows the names of the parts in `perdure.demo.training`, and nothing of how they were trained.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from perdure.errors import StoreError
from perdure.state import Difference, State, diff
from perdure.store import Store
from perdure.tree import Array, NumberRun, Omitted

#: What a person would ask for, and the parts of the world that it consists of.
QUESTIONS = {
    "weights of the networks": ("agent", "target"),
    "optimizer's moments, learning rate": ("optimizer", "schedule"),
    "replay buffer": ("buffer",),
    "environments in mid-episode": ("envs", "obs", "over", "episode"),
    "random generators": ("rng",),
    "returns, counters": ("returns",),
    "best score, run's own record": ("run",),
    "everything else": (),
}


@dataclass
class Answer:
    """One question, answered.

    :param paths: how many leaves of the state were compared.
    :param nbytes: of the arrays in them.
    :param differences: where the two differ.
    """

    question: str
    paths: int = 0
    nbytes: int = 0
    differences: list[Difference] = field(default_factory=list)


def judge(first: str, second: str) -> tuple[list[Answer], int]:
    """Compare the last checkpoints of two runs, and their published policies.

    :param first: the directory of one run.
    :param second: that of the other.
    :return: the answers, and how many leaves no checkpoint holds, on purpose: functions, modules, locks.
    :raises StoreError: if one of them has no checkpoint.
    """
    a, b = _last(first), _last(second)
    answers = {question: Answer(question) for question in QUESTIONS}
    left_out = 0
    for path, leaf in a.leaves():
        if isinstance(leaf, Omitted):
            left_out += 1
            continue
        answer = answers[_question(path)]
        answer.paths += 1
        array = leaf.array if isinstance(leaf, NumberRun) else leaf
        if isinstance(array, Array) and array.data is not None:
            answer.nbytes += array.data.nbytes
    # Nothing is ignored: there is no clock in this world.
    for difference in diff(a, b, ignore=()):
        answers[_question(difference.path)].differences.append(difference)
    found = [*answers.values(), _compare_policies(first, second)]
    return [answer for answer in found if answer.paths or answer.differences], left_out


def _last(directory: str) -> State:
    with Store.open(directory) as store:
        checkpoint = store.latest()
    if checkpoint is None:
        raise StoreError(f"the run in {directory} has no checkpoint to compare")
    return checkpoint.state


def _question(path: str) -> str:
    if "np_random" in path:
        return "random generators"
    part = path.partition(".")[0].partition("[")[0]
    return next((question for question, parts in QUESTIONS.items() if part in parts), "everything else")


def _compare_policies(first: str, second: str) -> Answer:
    """The file that a user takes away: both runs must have published the same one, to the byte, or none."""
    answer = Answer("file of the best policy")
    contents = [_content(os.path.join(directory, "policy.pt")) for directory in (first, second)]
    if contents != [None, None]:
        answer.paths, answer.nbytes = 1, max(len(content or b"") for content in contents)
    if contents[0] != contents[1]:
        answer.differences.append(Difference("policy.pt", "one is missing, or the two have other contents"))
    return answer


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None

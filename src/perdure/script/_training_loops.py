"""Finds the loops of a script that are its training. Nothing is run.

A training loop steps an environment and learns, itself or through functions of the script. Of loops inside each other
it is the outermost one, unless that one only repeats whole trainings: builds an environment anew in each round, as in
`for seed in range(5): train(seed)`. Where no loop does both, those that learn are taken (offline data), and where none
learns, those that step an environment (tables in NumPy, evolution strategies).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from perdure.errors import ScriptError
from perdure.run.loops import calls_in, own_nodes, stored_names
from perdure.script._calls import Calls, Function, Reached, learns, steps_environment
from perdure.script._sources import Source

Loop: TypeAlias = "ast.For | ast.While"
Scope: TypeAlias = "ast.Module | Function"
#: Whether what a loop reaches is a training.
Trains: TypeAlias = Callable[[Reached], bool]
_DEEPEST = 4


def _steps_and_learns(reached: Reached) -> bool:
    return reached.both


def _learns(reached: Reached) -> bool:
    return reached.learns is not None


@dataclass(frozen=True)
class TrainingLoop:
    """A loop that is made resumable.

    :param source: the file that it is in.
    :param scope: the function around it, or the module.
    :param node: the loop.
    :param reached: what it reaches.
    :param why: what made it one, in words.
    """

    source: Source
    scope: Scope
    node: Loop
    reached: Reached
    why: str

    @property
    def line(self) -> int:
        return self.node.lineno

    @property
    def header(self) -> str:
        """The first line of the loop."""
        if isinstance(self.node, ast.While):
            return f"while {ast.unparse(self.node.test)}:"
        return f"for {ast.unparse(self.node.target)} in {ast.unparse(self.node.iter)}:"

    @property
    def where(self) -> str:
        """The function around it, in words; empty for the module."""
        return "" if isinstance(self.scope, ast.Module) else f" in {self.scope.name}()"

    def __str__(self) -> str:
        return f"{self.source.path.name}:{self.line}{self.where}: {self.header}"


def training_loops(files: Sequence[Source]) -> list[TrainingLoop]:
    """The loops that are the training, in the order of the source; none if nothing looks like one."""
    finder = _Finder(files)
    return sorted(finder.chosen(), key=lambda each: (files.index(each.source), each.line))


def loops_at(files: Sequence[Source], lines: Sequence[str]) -> list[TrainingLoop]:
    """The loops that the user names.

    :param lines: "120", of the script itself, or "trainer.py:120".
    :raises ScriptError: if there is no loop.
    """
    finder, found = _Finder(files), []
    for given in lines:
        name, _, number = given.rpartition(":")
        there = [
            each
            for each in finder.all()
            if (each.source.path.name == name if name else each.source is files[0])
        ]
        match = next((each for each in there if str(each.line) == number), None)
        if match is None:
            known = ", ".join(str(each.line) for each in there) or "none"
            raise ScriptError(
                f"--loop {given}: no `for` or `while` statement begins there. The loops of "
                f"{name or files[0].path.name} begin in the lines: {known}"
            )
        found.append(TrainingLoop(match.source, match.scope, match.node, match.reached, "--loop names it"))
    return found


class _Finder:
    def __init__(self, files: Sequence[Source]) -> None:
        self._files = files
        self._calls = Calls(files)
        self._outermost = [
            self._loop(file, scope, node)
            for file in files
            for scope in _scopes(file.tree)
            for node in _loops_in(scope.body)
        ]

    def all(self) -> list[TrainingLoop]:
        """Every loop, inner ones too."""
        return [
            self._loop(file, scope, node)
            for file in self._files
            for scope in _scopes(file.tree)
            for node in _all_loops_in(scope.body)
        ]

    def chosen(self) -> list[TrainingLoop]:
        training = [each for loop in self._outermost for each in self._trainings(loop)]
        training = self._without_called(training, training)
        if training:
            called = self._functions_called(training)
            more = [
                each
                for each in self._outermost
                if id(each.scope) not in called
                and self._is_phase_before(each, training)
                and not self._functions_called([each]) & {id(chosen.scope) for chosen in training}
            ]
            return [*training, *more]
        learning = [each for loop in self._outermost for each in self._trainings(loop, _learns)]
        for found in (learning, [each for each in self._outermost if each.reached.steps is not None]):
            if found := self._without_called(found, found):
                return found
        return []

    def _loop(self, file: Source, scope: Scope, node: Loop) -> TrainingLoop:
        reached = self._calls.reached(_parts(node))
        what = [
            f"{verb} in line {call.lineno} ({ast.unparse(call.func)})"
            for verb, call in (("steps an environment", reached.steps), ("learns", reached.learns))
            if call is not None
        ]
        return TrainingLoop(file, scope, node, reached, " and ".join(what))

    def _trainings(self, loop: TrainingLoop, trains: Trains = _steps_and_learns) -> Iterator[TrainingLoop]:
        """The loop, or those inside it, if it only repeats them.

        :param trains: whether what a loop reaches is a training.
        """
        if not trains(loop.reached):
            return
        inner = [self._loop(loop.source, loop.scope, each) for each in _loops_in(loop.node.body)]
        inner = [each for each in inner if trains(each.reached)]
        for each in inner:
            built = _built_in([part for part in loop.node.body if part is not each.node])
            built -= stored_names([each.node])
            if self._repeats(each.node, lambda root, built=built: root in built):  # type: ignore[misc]
                yield from (found for every in inner for found in self._trainings(every, trains))
                return
        if not inner and self._repeats_a_function(loop, trains):
            return  # the loop of that function is found by itself
        yield loop

    def _repeats_a_function(self, loop: TrainingLoop, trains: Trains) -> bool:
        """Whether a loop calls a function that holds a whole training, of what is built in between."""
        todo: list[tuple[tuple[tuple[ast.Call, Function], ...], Sequence[ast.AST]]] = [
            ((), _parts(loop.node))
        ]
        while todo:
            chain, nodes = todo.pop()
            for call, function in self._calls.called(nodes):
                longer = (*chain, (call, function))
                inside = [self._loop(loop.source, function, each) for each in _loops_in(function.body)]
                if found := [each for each in inside if trains(each.reached)]:
                    return self._repeats(
                        found[0].node,
                        lambda root, longer=longer: self._built_on_the_way(longer, root, loop),  # type: ignore[misc]
                    )
                if len(longer) < _DEEPEST:
                    todo.append((longer, function.body))
        return False

    def _repeats(self, loop: Loop, is_built: Callable[[str], bool]) -> bool:
        """Whether a loop is a whole training of a loop around it, and not a part of one.

        The environment is built in each round of the loop around it, and so is what learns. An environment alone may be
        another level, and data alone another batch.

        :param is_built: whether what a variable holds is made in each round of the loop around it.
        """
        environments, learners = self._roots(loop), self._learners(loop)
        if environments and not any(map(is_built, environments)):
            return False
        if not learners:
            return bool(environments)
        return any(map(is_built, learners - environments or learners))

    def _built_on_the_way(
        self, chain: tuple[tuple[ast.Call, Function], ...], root: str, loop: TrainingLoop
    ) -> bool:
        """Whether what a variable of the last function holds is made in a round of the loop."""
        for call, function in reversed(chain):
            arguments = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
            if arguments[:1] == [root] and isinstance(call.func, ast.Attribute):  # self
                receiver: ast.expr | None = call.func.value
            elif root in {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}:
                receiver = _argument(call, arguments, root)
            else:
                return root in _built_in(function.body)
            if isinstance(receiver, ast.Call):
                return True
            name = None if receiver is None else _root(receiver)
            if name is None:
                return False
            root = name
        return root in _built_in(loop.node.body)

    def _roots(self, loop: Loop) -> set[str]:
        """The variables that hold the environment which a loop steps."""
        step = self._calls.reached(_parts(loop)).steps
        if step is None:
            return set()
        if steps_environment(step):
            assert isinstance(step.func, ast.Attribute)
            return {name for name in [_root(step.func.value)] if name is not None}
        given = [*step.args, *(each.value for each in step.keywords)]
        if isinstance(step.func, ast.Attribute):
            given.append(step.func.value)
        return {name for each in given if (name := _root(each)) is not None and "env" in name.lower()} or {
            name for each in given[-1:] if (name := _root(each)) is not None
        }

    def _learners(self, loop: Loop) -> set[str]:
        """The variables that hold what learns in a loop; none if it is in variables of the module."""
        own = stored_names([loop])
        receivers = set()
        given = set()
        for call in calls_in(_parts(loop)):
            receiver = _root(call.func.value) if isinstance(call.func, ast.Attribute) else None
            if learns(call):
                if call.args or not ast.unparse(call.func).endswith(".backward"):  # that is a loss
                    receivers.add(receiver)
            elif any(self._calls.reached(function.body).learns for _, function in self._calls.called([call])):
                receivers.add(receiver)
                given |= {_root(each) for each in (*call.args, *(each.value for each in call.keywords))}
        for found in (receivers, given):
            if names := {name for name in found if name is not None} - own:
                return names
        return set()

    def _is_phase_before(self, loop: TrainingLoop, training: Sequence[TrainingLoop]) -> bool:
        """Whether a loop is a phase before the training: it learns, or fills a buffer."""
        if any(loop.node is each.node or _is_inside(each.node, loop.node) for each in training):
            return False
        before = any(loop.scope is each.scope and loop.line < each.line for each in training)
        return loop.reached.learns is not None or (loop.reached.steps is not None and before)

    def _without_called(
        self, loops: Sequence[TrainingLoop], callers: Sequence[TrainingLoop]
    ) -> list[TrainingLoop]:
        called = self._functions_called(callers)
        return [each for each in loops if id(each.scope) not in called]

    def _functions_called(self, loops: Sequence[TrainingLoop]) -> set[int]:
        """The functions that loops call, directly or through others."""
        found: set[int] = set()
        todo: list[Sequence[ast.AST]] = [_parts(each.node) for each in loops]
        while todo:
            for _, function in self._calls.called(todo.pop()):
                if id(function) not in found:
                    found.add(id(function))
                    todo.append(function.body)
        return found


def _built_in(body: Sequence[ast.stmt]) -> set[str]:
    """The variables that a block gives what a call returns: an environment, a model, an optimizer."""
    return {
        name
        for node in own_nodes(body)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Call | ast.Tuple | ast.GeneratorExp)
        for name in stored_names([node])
    }


def _parts(loop: Loop) -> list[ast.AST]:
    return [loop.iter if isinstance(loop, ast.For) else loop.test, *loop.body]


def _scopes(tree: ast.Module) -> Iterator[Scope]:
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node


def _loops_in(body: Sequence[ast.stmt]) -> Iterator[Loop]:
    """The outermost loops of a block; not those of functions that are defined in it."""
    for node in body:
        if isinstance(node, ast.For | ast.While):
            yield node
        else:
            yield from _loops_in(_blocks(node))


def _all_loops_in(body: Sequence[ast.stmt]) -> Iterator[Loop]:
    for node in body:
        if isinstance(node, ast.For | ast.While):
            yield node
        yield from _all_loops_in(_blocks(node))


def _blocks(node: ast.stmt) -> list[ast.stmt]:
    """The statements that run in the same scope inside a statement."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    found: list[ast.stmt] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            found.append(child)
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            found += child.body
    return found


def _is_inside(inner: ast.AST, outer: ast.AST) -> bool:
    return any(each is inner for each in ast.walk(outer))


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _argument(call: ast.Call, arguments: Sequence[str], name: str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    if name not in arguments:
        return None
    position = arguments.index(name) - (isinstance(call.func, ast.Attribute) and arguments[:1] == ["self"])
    return call.args[position] if 0 <= position < len(call.args) else None

"""Inserts into the source of a script what makes its training loops resumable. Lines and columns stay as they are.

    for x in rounds:           for x in __perdure__.loop(0, rounds):
        body                       body
                               __perdure__.left(0)

    while condition:           for __perdure_round__ in __perdure__.loop(0):
        body                       if not condition:
                                       __perdure__.over(0, False)
                                       break
                                   body
                               __perdure__.left(0)

Calls that ask a clock or the system's random numbers go through `__perdure__.asked`, which gives set-up code the same
answers in every process of the run.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from perdure.errors import ScriptError
from perdure.script._clock import NAMES
from perdure.script._training_loops import TrainingLoop

#: The name of the session in the modules of the script.
SESSION = "__perdure__"
_ROUND = "__perdure_round__"


def rewritten(tree: ast.Module, loops: Mapping[int, TrainingLoop]) -> ast.Module:
    """The tree with calls inserted; it is changed in place.

    :param tree: of a source file.
    :param loops: those to make resumable, by number. They may be of other files.
    :raises ScriptError: if one of them cannot be.
    """
    numbers = {id(loop.node): number for number, loop in loops.items()}
    names = {number: str(loop) for number, loop in loops.items()}
    found: ast.Module = _Rewriter(numbers, names).visit(tree)
    return ast.fix_missing_locations(found)


class _Rewriter(ast.NodeTransformer):
    def __init__(self, numbers: Mapping[int, int], names: Mapping[int, str]) -> None:
        self._numbers = numbers
        self._names = names
        self._site = 0

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        number = self._numbers.get(id(node))
        self.generic_visit(node)
        if number is None:
            return node
        node.iter = _call("loop", node.iter, ast.Constant(number), node.iter)
        return [_without_else_after_break(node, number), _after(node, number)]

    def visit_While(self, node: ast.While) -> ast.AST | list[ast.stmt]:
        number = self._numbers.get(id(node))
        self.generic_visit(node)
        if number is None:
            return node
        if _leaves(node.orelse):
            raise ScriptError(
                f"{self._names[number]}: its `else:` leaves another loop, which is not supported. Put the `else:` "
                "block after the loop"
            )
        # A condition that calls something may change something: it is asked once only.
        is_for_good = any(isinstance(each, ast.Call | ast.NamedExpr) for each in ast.walk(node.test))
        over = _call("over", node.test, ast.Constant(number), ast.Constant(is_for_good))
        end: list[ast.stmt] = [ast.copy_location(ast.Expr(over), node.test), *node.orelse, ast.Break()]
        ask = ast.If(ast.UnaryOp(ast.Not(), node.test), end, [])
        for each in (ask, ask.test, end[-1]):
            ast.copy_location(each, node.test)
        target = ast.copy_location(ast.Name(_ROUND, ast.Store()), node.test)
        rounds = _call("loop", node.test, ast.Constant(number))
        loop = ast.For(target, rounds, [ask, *node.body], [], None)
        return [ast.copy_location(loop, node), _after(node, number)]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        if name in NAMES:
            self._site += 1
            site = f"{self._site} {ast.unparse(node.func)}"
            node.func = _call("asked", node.func, ast.Constant(site), node.func)
        return node


def _call(method: str, at: ast.expr, *arguments: ast.expr) -> ast.Call:
    """A call of the session, which stands where something else stood."""
    function = ast.Attribute(ast.Name(SESSION, ast.Load()), method, ast.Load())
    call = ast.Call(function, list(arguments), [])
    for each in (
        function.value,
        function,
        call,
        *(part for part in arguments if isinstance(part, ast.Constant)),
    ):
        ast.copy_location(each, at)
    return call


def _after(node: ast.For | ast.While, number: int) -> ast.stmt:
    """What follows a loop: it is in the line of the loop's head."""
    at = node.iter if isinstance(node, ast.For) else node.test
    return ast.copy_location(ast.Expr(_call("left", at, ast.Constant(number))), at)


def _without_else_after_break(node: ast.For, number: int) -> ast.For:
    """Let a loop that ended by `break` in an earlier process not run its `else:` in this one."""
    if node.orelse:
        test = ast.UnaryOp(ast.Not(), _call("was_broken", node.iter, ast.Constant(number)))
        node.orelse = [
            ast.copy_location(ast.If(ast.copy_location(test, node.iter), node.orelse, []), node.orelse[0])
        ]
    return node


def _leaves(body: list[ast.stmt]) -> bool:
    """Whether a block has a `break` or `continue` for a loop around it."""
    for node in body:
        if isinstance(node, ast.Break | ast.Continue):
            return True
        if isinstance(node, ast.For | ast.While | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            continue
        if _leaves([each for each in ast.walk(node) if isinstance(each, ast.stmt) and each is not node]):
            return True
    return False

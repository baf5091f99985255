"""Wrong answers that a real candidate would give, and the harness that holds the checks against them.

One module per notebook, named like its module of checks:

    from . import right, wrong

    @wrong("1.4", names="1/count", reason=r"multiply by n/k")     # a regex that the message must match
    def inverse_count(y): ...

    @right("1.4", names="a loop instead of a vector")               # another correct way: must pass
    def loop(y): ...

    @wrong("1.1", part="estimate_jaccard", names=..., reason=...)   # one part; the others stay the reference
    wrong("1.1", parts={"estimate_jaccard": f}, names=..., reason=...)   # the same without a decorator

A check that cannot fail is a defect: `spare_assertions` removes each assertion of a check in turn and names those that
no wrong answer needs.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import linecache
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helpers.exercises.checking import judge
from helpers.exercises.reference import cell, cell_id, source
from helpers.exercises.registry import MODULES, Exercise, find
from helpers.exercises.trial import CheckFailed, NotAttempted
from tools.notebook_source import Cell, stub

ASSERTIONS = {"close", "equal", "that", "is_type", "is_array", "is_tensor", "raises", "fail"}
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Answer:
    """One named answer: the parts that it replaces, and the regex that its rejection must match (None: it is right)."""

    exercise: str
    names: str
    parts: dict[str, Callable[..., Any]]
    reason: str | None = None

    def __repr__(self) -> str:
        return f"{self.exercise} {self.names}"


ANSWERS: list[Answer] = []


def wrong(
    exercise: str, *, names: str, reason: str, part: str | None = None, parts: dict[str, Any] | None = None
) -> Callable[[Any], Any]:
    """Register a wrong answer, as a decorator or with `parts` at once."""
    if not reason:
        raise ValueError(f"reason of {exercise} {names!r} must be a regex: what does the message say about it?")
    re.compile(reason)
    return _register(exercise, names, reason, part, parts)


def right(
    exercise: str, *, names: str, part: str | None = None, parts: dict[str, Any] | None = None
) -> Callable[[Any], Any]:
    """Register another correct answer, as a decorator or with `parts` at once."""
    return _register(exercise, names, None, part, parts)


def _register(
    exercise: str, names: str, reason: str | None, part: str | None, parts: dict[str, Any] | None
) -> Callable[[Any], Any]:
    def add(answer: Any) -> Any:
        replaced = parts or {_part(exercise, part, answer): answer}
        if unknown := set(replaced) - set(find(exercise).parts):
            raise ValueError(f"parts: {exercise} has no {sorted(unknown)}; it has {find(exercise).parts}")
        if any(known.exercise == exercise and known.names == names for known in ANSWERS):
            raise ValueError(f"names: {exercise} has {names!r} already")
        ANSWERS.append(Answer(exercise, names, dict(replaced), reason))
        return answer

    if parts is not None:
        add(None)
    return add


def _part(exercise: str, part: str | None, answer: Any) -> str:
    known = find(exercise).parts
    if part is not None:
        return part
    if len(known) == 1:
        return known[0]
    if getattr(answer, "__name__", None) in known:
        return answer.__name__
    raise ValueError(f"part: say which part of {exercise} this replaces: {', '.join(known)}")


def answers(exercise: str) -> list[Answer]:
    """All registered answers to an exercise, right and wrong; its module of wrong answers is imported first."""
    importlib.import_module(f"{__name__}.{MODULES[int(exercise.split('.')[0])]}")
    return [answer for answer in ANSWERS if answer.exercise == exercise]


# --- the reference and the stub, from the notebook's script ---------------------------------------------------


@functools.cache
def reference(exercise: str) -> tuple[Any, ...]:
    """The reference answers, from the exercise's cell run after the notebook's cell of imports."""
    return _executed(exercise, stubbed=False)


@functools.cache
def stubs(exercise: str) -> tuple[Any, ...]:
    """What a learner starts from."""
    return _executed(exercise, stubbed=True)


def _executed(exercise: str, *, stubbed: bool) -> tuple[Any, ...]:
    script = source(exercise)
    namespace = dict(_imports(script))
    text = cell(script, cell_id(exercise))
    if stubbed:
        text = str(stub(Cell(script, 1, cell_id(exercise), "code", ("exercise",), text)))
    _run(text, f"<{cell_id(exercise)} {'stub' if stubbed else 'solved'}>", namespace)
    return tuple(namespace[part] for part in find(exercise).parts)


@functools.cache
def _imports(script: Path) -> dict[str, Any]:
    # a module of its own: dataclasses and pickles look a class's module up by name
    module = types.ModuleType("exercise_reference")
    sys.modules[module.__name__] = module
    _run(cell(script, "imports"), "<imports>", module.__dict__)
    return module.__dict__


def _run(text: str, name: str, namespace: dict[str, Any]) -> None:
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), namespace)


def completed(answer: Answer) -> tuple[Any, ...]:
    """The answer with the reference's parts where it brings none."""
    parts = find(answer.exercise).parts
    if set(answer.parts) == set(parts):
        return tuple(answer.parts[part] for part in parts)
    return tuple(answer.parts.get(part, known) for part, known in zip(parts, reference(answer.exercise), strict=True))


# --- verdicts -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What a check said: passed, not attempted or not yet, its message, and the lines of the check it came through."""

    state: str
    message: str = ""
    lines: frozenset[int] = frozenset()


def verdict(exercise: Exercise, given: Sequence[Any], seed: int) -> Verdict:
    """Run a check and say what came of it."""
    try:
        judge(exercise, tuple(given), seed)
    except NotAttempted as missing:
        return Verdict("not attempted", str(missing))
    except CheckFailed as failure:
        file = exercise.check.__code__.co_filename
        steps = [step for error in _chain(failure) for step in traceback.extract_tb(error.__traceback__)]
        lines = frozenset(step.lineno or 0 for step in steps if step.filename == file)
        return Verdict("not yet", str(failure), lines)
    return Verdict("passed")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def complaint(exercise: Exercise, given: Sequence[Any], reason: str, seeds: Sequence[int] = SEEDS) -> str | None:
    """Why a wrong answer is not rejected as it should be, or None when it is."""
    for seed in seeds:
        said = verdict(exercise, given, seed)
        if said.state != "not yet":
            return f"{said.state} with seed {seed}"
        if not re.search(reason, said.message):
            return f"rejected with seed {seed}, but the message does not match {reason!r}:\n{said.message}"
    return None


# --- is every assertion of a check needed? ----------------------------------------------------------------------


def spare_assertions(
    exercise: Exercise, wrongs: Sequence[tuple[Sequence[Any], str]], seeds: Sequence[int] = SEEDS
) -> list[str]:
    """The assertions of a check (and of the helpers it calls) whose removal no wrong answer notices.

    `wrongs` are pairs (answers, reason). An assertion is needed when, without it, some wrong answer is accepted or
    is rejected for another reason. A `with trial.forbid(…)` counts as one.
    """
    lines = [frozenset().union(*(verdict(exercise, given, s).lines for s in seeds)) for given, _ in wrongs]
    spare = []
    for removed, check in _without_each_assertion(exercise.check):
        # those that failed at this very line are the likely ones to notice: ask them first
        order = sorted(range(len(wrongs)), key=lambda i: not lines[i] & set(removed.lines))
        weakened = replace(exercise, check=check)
        if not any(complaint(weakened, *wrongs[i], seeds) for i in order):
            spare.append(f"{Path(exercise.check.__code__.co_filename).name}:{removed.lines[0]}: {removed.text}")
    return spare


@dataclass(frozen=True)
class Removed:
    """An assertion taken out of a check: its lines in the file and its text on one line."""

    lines: range
    text: str


def _without_each_assertion(check: Any) -> Iterator[tuple[Removed, Any]]:
    functions = _functions_of(check)
    count = sum(_Remover(-1).count(function) for function in functions.values())
    for number in range(count):
        remover = _Remover(number)
        weakened = [remover.visit(function) for function in _functions_of(check).values()]
        module = ast.fix_missing_locations(ast.Module(weakened, type_ignores=[]))
        namespace = dict(check.__globals__)
        exec(compile(module, check.__code__.co_filename, "exec"), namespace)
        assert remover.removed is not None
        yield remover.removed, namespace[check.__name__]


def _functions_of(check: Any) -> dict[str, ast.FunctionDef]:
    """The check's definition without its decorators, and those of the functions of its module that it uses."""
    module = inspect.getmodule(check)
    text = (
        linecache.getlines(check.__code__.co_filename) if module is None else inspect.getsource(module).splitlines(True)
    )
    tree = ast.parse("".join(text))
    known = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    needed: dict[str, ast.FunctionDef] = {}
    names = [check.__name__]
    while names:
        name = names.pop()
        if name in known and name not in needed:
            needed[name] = known[name]
            needed[name].decorator_list = needed[name].decorator_list if name != check.__name__ else []
            names += [node.id for node in ast.walk(known[name]) if isinstance(node, ast.Name)]
    return needed


class _Remover(ast.NodeTransformer):
    """Takes out assertion number `number` of those it walks past."""

    def __init__(self, number: int) -> None:
        self.number, self.seen = number, 0
        self.removed: Removed | None = None

    def count(self, tree: ast.AST) -> int:
        self.visit(tree)
        return self.seen

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if _is_call_of_trial(node.value, ASSERTIONS) and self._hit(node):
            return ast.copy_location(ast.Pass(), node)
        return node

    def visit_With(self, node: ast.With) -> Any:
        forbids = [item for item in node.items if _is_call_of_trial(item.context_expr, {"forbid"})]
        hit = bool(forbids) and self._hit(node.items[0].context_expr)
        self.generic_visit(node)
        if not hit:
            return node
        node.items = [item for item in node.items if item not in forbids]
        return node if node.items else node.body

    def _hit(self, node: ast.stmt | ast.expr) -> bool:
        hit = self.seen == self.number
        self.seen += 1
        if hit:
            text = " ".join(ast.unparse(node).split())
            self.removed = Removed(range(node.lineno, (node.end_lineno or node.lineno) + 1), text[:100])
        return hit


def _is_call_of_trial(node: ast.AST, names: set[str]) -> bool:
    """True for `trial.close(…)` and its like: any name may stand for the trial, but not a module's."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in names
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "trial"
    )

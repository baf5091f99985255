"""What a check works with: it calls the learner's answers and says exactly what is wrong with them.

What this does not catch: an endless loop (interrupt the kernel), and an answer that recognises the check.
"""

from __future__ import annotations

import copy
import dis
import functools
import importlib
import inspect
import linecache
import re
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from helpers.exercises.cards import Card
from helpers.exercises.comparing import Tolerance, difference, is_tensor, plain, same
from helpers.exercises.describing import describe, shorten

NO_RETURN = "the function ends without `return`"
# what `pass`, a docstring, `...` and `raise NotImplementedError("…")` are compiled to by Python 3.11 to 3.13
IDLE = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "COPY_FREE_VARS", "MAKE_CELL"}
RAISING = {"LOAD_GLOBAL", "PUSH_NULL", "PRECALL", "CALL", "RAISE_VARARGS"}


class NotAttempted(Exception):
    """The learner has not written this answer yet. Not an error."""


class CheckFailed(Exception):
    """An answer that is not right yet: which property failed, on which input, and what mistake it usually is."""

    def __init__(
        self,
        exercise: str,
        property: str,
        *,
        input: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        mistake: str | None = None,
        repeat: str | None = None,
    ) -> None:
        self.exercise, self.property, self.input = exercise, property, input
        self.expected, self.got, self.mistake, self.repeat = expected, got, mistake, repeat
        self.notes: tuple[str, ...] = ()
        self.displayed = False
        super().__init__(exercise, property)

    @property
    def card(self) -> Card:
        labelled = (
            ("input", self.input),
            ("expected", self.expected),
            ("got", self.got),
            ("usually", self.mistake),
            ("repeat", self.repeat),
        )
        rows = tuple((label, value) for label, value in labelled if value)
        return Card("not yet", f"{self.exercise} not yet: {self.property}", rows, self.notes)

    def __str__(self) -> str:
        return self.card.text()

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in place of a traceback: the card stands above it already, or is printed here."""
        text = str(self)
        return [text.split("\n")[0]] if self.displayed else text.split("\n")


@dataclass(frozen=True)
class Mistake:
    """The value that a well-known mistake gives (or a function that computes it), and what to tell its maker."""

    value: Any
    text: str

    def explains(self, got: Any, tolerance: Tolerance | None) -> bool:
        try:
            value = self.value() if isinstance(self.value, types.FunctionType) else self.value
        except Exception:  # a mistake may have no value on this input
            return False
        return difference(got, value, tolerance) is None


@dataclass(frozen=True)
class Forbid:
    """Functions that may not be called, why, and (owner, name, original, replacement) of each place to patch."""

    names: tuple[str, ...]
    why: str
    patches: list[tuple[Any, str, Any, Any]]

    def enforce(self) -> None:
        for owner, name, _, refuse in self.patches:
            _set(owner, name, refuse)

    def lift(self) -> None:
        for owner, name, original, _ in self.patches:
            _set(owner, name, original)


class Trial:
    """One attempt at one exercise. The assertions raise CheckFailed; `rng` is the attempt's own randomness."""

    def __init__(self, exercise: str, seed: int = 0, answers: Sequence[Any] = ()) -> None:
        self.exercise, self.seed, self.answers = exercise, seed, tuple(answers)
        self.rng = np.random.default_rng(seed)
        self.input: str | None = None
        self.last: Any = None
        self._forbidden: CheckFailed | None = None
        self._forbids: list[Forbid] = []  # those in force, the outermost first

    def call(self, answer: Any, *args: Any, **kwargs: Any) -> Any:
        """The answer's result on copies of the arguments.

        Raises NotAttempted for a stub, CheckFailed when the answer raises or changes an argument in place.
        """
        self._must_be_written(answer)
        self.input = _describe_call(answer, args, kwargs)
        given_args, given_kwargs = _copied((args, kwargs))
        try:
            result = answer(*given_args, **given_kwargs)
        except CheckFailed:
            raise
        except Exception as error:
            self._raised(answer, error)
        if result is ...:
            raise NotAttempted(name_of(answer))
        self._unchanged(answer, (args, kwargs), (given_args, given_kwargs))
        self.last = result
        return result

    def on_ranks(
        self,
        body: Callable[..., Any],
        world_size: int,
        *answers: Any,
        timeout: float = 5.0,
        otherwise: str | None = None,
        initialise: bool = True,
        **kwargs: Any,
    ) -> list[Any]:
        """The results, by rank, of `body(*answers, **kwargs)` in `world_size` real processes in one process group.

        `body` is a function of the check's module. With `initialise=False` only the variables that torchrun sets are
        there, and the process group is the answer's business. What is forbidden here is forbidden in the ranks too.
        Raises NotAttempted for a stub; CheckFailed, which names the rank and the learner's line, when an answer raises
        there, or when the ranks have not finished after `timeout` seconds (`otherwise` says what usually holds them).
        """
        from helpers.exercises import ranks  # here: only the exercises about several processes need it

        for answer in answers:
            self._must_be_written(answer)
        self.input = f"{world_size} rank{'s' if world_size != 1 else ''}"
        forbidden = [(forbid.names, forbid.why) for forbid in self._forbids]
        with self._lifted():
            task = ranks.Task(self.exercise, forbidden, body, answers, kwargs)
            results = ranks.run(self, task, world_size, timeout, otherwise, initialise)
        self.last = results
        return results

    def raises(
        self,
        exception: type[Exception] | tuple[type[Exception], ...],
        answer: Any,
        *args: Any,
        what: str,
        otherwise: str | None = None,
        match: str | None = None,
        **kwargs: Any,
    ) -> None:
        """The answer must raise this exception on these arguments (and its message match the regex)."""
        self._must_be_written(answer)
        self.input = _describe_call(answer, args, kwargs)
        kinds = exception if isinstance(exception, tuple) else (exception,)
        expected = " or ".join(kind.__name__ for kind in kinds)
        given_args, given_kwargs = _copied((args, kwargs))
        try:
            result = answer(*given_args, **given_kwargs)
        except kinds as error:
            not_a_stub(answer, error)
            if match is not None and not re.search(match, str(error)):
                expected += f" with a message that matches {match!r}"
                self.fail(what, expected=expected, got=exception_text(error), otherwise=otherwise)
            return
        except CheckFailed:
            raise
        except Exception as error:
            not_a_stub(answer, error)
            got = f"{exception_text(error)}{at_line(place_of(answer, error))}"
            self.fail(what, expected=expected, got=got, otherwise=otherwise)
        if result is ...:
            raise NotAttempted(name_of(answer))
        self.fail(what, expected=expected, got=describe(result), otherwise=otherwise)

    def is_type(self, got: Any, types: Any, *, what: str, otherwise: str | None = None) -> None:
        """`got` must be of this type (or one of a tuple). A bool is no int; numpy numbers count as Python's."""
        wanted = types if isinstance(types, tuple) else (types,)
        value = plain(got)
        fits = isinstance(value, wanted) and not (isinstance(value, bool) and not {bool, object} & set(wanted))
        if not fits:
            expected = " or ".join(kind.__name__ for kind in wanted)
            self.fail(f"{what}: its type", expected=expected, got=_with_type(got), otherwise=_hint_none(got, otherwise))

    def is_array(
        self,
        got: Any,
        shape: tuple[int | None, ...] | None = None,
        dtype: Any = None,
        kind: str | None = None,
        *,
        what: str,
        otherwise: str | None = None,
    ) -> None:
        """`got` must be a numpy array, of this shape (None: any length), dtype, or kind ("f", "iu", "b" …)."""
        if not isinstance(got, np.ndarray):
            expected = "a numpy array" if shape is None else f"a numpy array of shape {_shape(shape)}"
            self.fail(f"{what}: its type", expected=expected, got=_with_type(got), otherwise=_hint_none(got, otherwise))
        if shape is not None and not _fits(got.shape, shape):
            expected = f"shape {_shape(shape)}"
            self.fail(f"{what}: its shape", expected=expected, got=describe(got), otherwise=otherwise)
        if (dtype is not None and got.dtype != np.dtype(dtype)) or (kind is not None and got.dtype.kind not in kind):
            expected = str(np.dtype(dtype)) if dtype is not None else " or ".join(KINDS.get(k, k) for k in kind or "")
            self.fail(f"{what}: its dtype", expected=expected, got=describe(got), otherwise=otherwise)

    def is_tensor(
        self,
        got: Any,
        shape: tuple[int | None, ...] | None = None,
        dtype: Any = None,
        device: str | None = None,
        *,
        what: str,
        otherwise: str | None = None,
    ) -> None:
        """`got` must be a torch tensor, of this shape (None: any length), dtype ("float32") and device ("cpu")."""
        if not is_tensor(got):
            expected = "a tensor" if shape is None else f"a tensor of shape {_shape(shape)}"
            self.fail(f"{what}: its type", expected=expected, got=_with_type(got), otherwise=_hint_none(got, otherwise))
        if shape is not None and not _fits(tuple(got.shape), shape):
            expected = f"shape {_shape(shape)}"
            self.fail(f"{what}: its shape", expected=expected, got=describe(got), otherwise=otherwise)
        if dtype is not None and str(got.dtype) != f"torch.{str(dtype).removeprefix('torch.')}":
            expected = str(dtype).removeprefix("torch.")
            self.fail(f"{what}: its dtype", expected=expected, got=describe(got), otherwise=otherwise)
        if device is not None and got.device.type != device:
            expected = f"a tensor on {device}"
            self.fail(f"{what}: its device", expected=expected, got=f"a tensor on {got.device}", otherwise=otherwise)

    def close(
        self,
        got: Any,
        want: Any,
        *,
        what: str,
        mistakes: Sequence[Mistake] = (),
        otherwise: str | None = None,
        rtol: float = 1e-6,
        atol: float = 1e-9,
    ) -> None:
        """Numbers (any nesting, same shape) that differ by at most `atol + rtol * |want|`; NaN equals NaN."""
        self._compare(got, want, what, mistakes, otherwise, Tolerance(rtol, atol))

    def equal(
        self, got: Any, want: Any, *, what: str, mistakes: Sequence[Mistake] = (), otherwise: str | None = None
    ) -> None:
        """Equal values in equal containers; an array for an array, of the same shape."""
        self._compare(got, want, what, mistakes, otherwise, None)

    def that(
        self, condition: Any, *, what: str, want: Any = None, got: Any = None, otherwise: str | None = None
    ) -> None:
        """Any other property; `want` and `got` are shown (a text as it is)."""
        if not isinstance(condition, bool | np.bool_):
            raise TypeError(f"condition of {what!r} must be a bool, got {describe(condition)}")
        if not condition:
            self.fail(what, expected=_shown(want), got=_shown(got), otherwise=otherwise)

    @contextmanager
    def forbid(self, *names: str, why: str) -> Iterator[None]:
        """Inside, a call of one of these functions ("numpy.linalg.eigvalsh") fails the attempt, even when caught."""
        forbid = Forbid(names, why, [patch for name in names for patch in self._patches(name, why)])
        self._forbids.append(forbid)
        try:
            forbid.enforce()
            yield
        except Exception:
            if self._forbidden is None:
                raise
        finally:
            self._forbids.pop()
            forbid.lift()
        if self._forbidden is not None:  # also when the answer caught it, or failed because of it
            raise self._forbidden

    @contextmanager
    def _lifted(self) -> Iterator[None]:
        """Inside, nothing is forbidden here: the answers are sent to other processes as they were written."""
        for forbid in reversed(self._forbids):
            forbid.lift()
        try:
            yield
        finally:
            for forbid in self._forbids:
                forbid.enforce()

    def failure(
        self, what: str, *, expected: str | None = None, got: str | None = None, otherwise: str | None = None
    ) -> CheckFailed:
        """The exception that says that this property failed on the last input."""
        repeat = f"check(…, seed={self.seed})"
        return CheckFailed(
            self.exercise, what, input=self.input, expected=expected, got=got, mistake=otherwise, repeat=repeat
        )

    def fail(self, what: str, **fields: str | None) -> NoReturn:
        raise self.failure(what, **fields)

    def _compare(
        self,
        got: Any,
        want: Any,
        what: str,
        mistakes: Sequence[Mistake],
        otherwise: str | None,
        tolerance: Tolerance | None,
    ) -> None:
        found = difference(got, want, tolerance)
        if found is None:
            return
        text = next((m.text for m in mistakes if m.explains(got, tolerance)), _hint_none(got, otherwise))
        at = f" at {found.place}" if found.place else ""
        self.fail(what, expected=found.want + at, got=found.got + at, otherwise=text)

    def _must_be_written(self, answer: Any) -> None:
        if is_stub(answer):
            raise NotAttempted(name_of(answer))
        if not callable(answer):
            self.fail(
                "the answer is a function",
                expected="the function itself",
                got=_with_type(answer),
                otherwise="pass `f` to check, not the result of `f(…)`",
            )

    def _raised(self, answer: Any, error: Exception) -> NoReturn:
        not_a_stub(answer, error)
        got = f"{exception_text(error)}{at_line(place_of(answer, error))}"
        raise self.failure(f"{name_of(answer)} runs", expected="no exception", got=got) from error

    def _unchanged(self, answer: Any, before: Any, after: Any) -> None:
        names = _argument_names(answer, *before)
        values = [*zip(before[0], after[0], strict=True), *((before[1][k], after[1][k]) for k in before[1])]
        for name, (old, new) in zip(names, values, strict=True):
            if not same(old, new):
                self.fail(
                    f"{name_of(answer)} leaves its argument {name} as it was",
                    expected=f"{name}: {describe(old)}",
                    got=f"{name}: {describe(new)}",
                    otherwise="it works in place: work on a copy, the caller still needs the original",
                )

    def _patches(self, name: str, why: str) -> list[tuple[Any, str, Any, Any]]:
        """(owner, name, original, replacement) for the function and for every name the answers know it by."""
        found = _resolve(name)
        if found is None:
            return []  # not installed, so not called either
        owner, attribute, original = found

        @functools.wraps(original, assigned=("__name__", "__doc__"), updated=())
        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            failure = self.failure(f"written without {name}", expected=why, got=f"a call of {name}")
            self._forbidden = self._forbidden or failure
            raise failure

        places = [(owner, attribute)]
        for answer in self.answers:
            scope = _globals(answer)
            places += [(scope, key) for key, value in scope.items() if value is original]
        return [(place, key, original, refuse) for place, key in places]


KINDS = {"f": "a float dtype", "i": "an integer dtype", "u": "an unsigned dtype", "b": "bool", "c": "a complex dtype"}


def is_stub(answer: Any) -> bool:
    """True for `...`, a function with nothing but a docstring or `raise NotImplementedError`, and an empty class."""
    if answer is ...:
        return True
    if inspect.isclass(answer):
        return answer.__module__ != "builtins" and not any(callable(value) for value in vars(answer).values())
    function = _function(answer)
    if function is None:
        return False
    steps = list(dis.get_instructions(function.__code__))
    used = {step.opname for step in steps}
    if "RAISE_VARARGS" in used:
        names = {step.argval for step in steps if step.opname == "LOAD_GLOBAL"}
        return used <= IDLE | RAISING and names == {"NotImplementedError"}
    constants = [step.argval for step in steps if step.opname in ("LOAD_CONST", "RETURN_CONST")]
    return used <= IDLE and all(constant is None or constant is ... for constant in constants)


def not_a_stub(answer: Any, error: Exception) -> None:
    """NotAttempted when the learner's own code raised NotImplementedError; a library's is an error like others."""
    if not isinstance(error, NotImplementedError):
        return
    frames = list(_frames(error))
    last = frames[-1]
    raised = last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    if raised and last.tb_frame.f_globals is _globals(answer):
        raise NotAttempted(name_of(answer)) from None


def _frames(error: BaseException) -> Iterator[types.TracebackType]:
    step = error.__traceback__
    while step is not None:
        yield step
        step = step.tb_next


def place_of(answer: Any, error: BaseException) -> tuple[str, int] | None:
    """File (or cell) and number of the learner's line that the exception came through, if there is one."""
    own = [step for step in _frames(error) if step.tb_frame.f_globals is _globals(answer)]
    return (own[-1].tb_frame.f_code.co_filename, own[-1].tb_lineno) if own else None


def at_line(place: tuple[str, int] | None) -> str:
    """The end of a sentence that names a line and quotes it, or nothing."""
    if place is None:
        return ""
    line = linecache.getline(*place).strip()
    return f", at line {place[1]}" + (f": {shorten(line)}" if line else "")


def exception_text(error: BaseException) -> str:
    try:
        message = str(error)
    except Exception:  # an exception of the learner's own making
        message = ""
    return f"{type(error).__name__}: {shorten(message, 200)}" if message else type(error).__name__


def _function(answer: Any) -> types.FunctionType | None:
    """The Python function under decorators, partial, methods and callable objects, if there is one."""
    while isinstance(answer, functools.partial):
        answer = answer.func
    answer = inspect.unwrap(answer) if callable(answer) else answer
    answer = getattr(answer, "__func__", answer)
    if not isinstance(answer, types.FunctionType) and not inspect.isclass(answer):
        answer = inspect.getattr_static(type(answer), "__call__", None)
    return answer if isinstance(answer, types.FunctionType) else None


def code_of(answer: Any) -> types.CodeType | None:
    """The compiled body of the answer, which knows the file or cell that it comes from."""
    function = _function(answer)
    return function.__code__ if function is not None else None


def _globals(answer: Any) -> dict[str, Any]:
    if inspect.isclass(answer):
        functions = [value for value in vars(answer).values() if isinstance(value, types.FunctionType)]
        return functions[0].__globals__ if functions else {}
    function = _function(answer)
    return function.__globals__ if function is not None else {}


def name_of(answer: Any) -> str:
    return getattr(answer, "__name__", None) or type(answer).__name__


def _argument_names(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    try:
        names = list(inspect.signature(answer).bind(*args, **kwargs).signature.parameters)[: len(args)]
    except (TypeError, ValueError):  # a wrong signature, or a builtin that has none
        names = []
    names += [f"argument {i + 1}" for i in range(len(names), len(args))]
    return [*names, *kwargs]


def _describe_call(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    values = [*args, *kwargs.values()]
    names = _argument_names(answer, args, kwargs)
    limit = max(30, 160 // max(1, len(values)))
    return ", ".join(f"{n} = {describe(v, limit)}" for n, v in zip(names, values, strict=True)) or None


def _copied(value: Any) -> Any:
    """Deep copies; an object that cannot be copied (a generator, an open file) goes in as it is."""
    try:
        return copy.deepcopy(value)
    except Exception:
        args, kwargs = value
        return tuple(_copied_one(a) for a in args), {key: _copied_one(a) for key, a in kwargs.items()}


def _copied_one(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def _resolve(name: str) -> tuple[Any, str, Any] | None:
    """(owner, attribute, object) of a dotted name. None when its package is not there, ValueError when it is a slip."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:-1]:
            owner = getattr(owner, part)
        if not hasattr(owner, parts[-1]):
            raise ValueError(f"names: {name!r} does not exist")
        return owner, parts[-1], inspect.getattr_static(owner, parts[-1])
    return None


def _set(owner: Any, name: str, value: Callable[..., Any]) -> None:
    if isinstance(owner, dict):
        owner[name] = value
    else:
        setattr(owner, name, value)


def _with_type(got: Any) -> str:
    return "None" if got is None else f"{type(got).__name__}: {describe(got)}"


def _hint_none(got: Any, otherwise: str | None) -> str | None:
    return NO_RETURN if got is None else otherwise


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    return shorten(value, 200) if isinstance(value, str) else describe(value)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (None, n) for n, w in zip(shape, wanted, strict=True))


def _shape(shape: tuple[int | None, ...]) -> str:
    inner = ", ".join("any" if n is None else str(n) for n in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"

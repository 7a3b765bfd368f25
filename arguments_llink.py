"""Arguments held to what their signature says, in one place: one sentence in place of whatever would break on them."""

from __future__ import annotations

import functools
import inspect
import math
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from .characters_llink import half_character
from .errors_llink import LlinkConfigError

T = TypeVar("T")

#: Containers whose elements are looked at; texts in them are checked where they are read, with errors of their own.
_ROWS = (list, tuple, Sequence, Collection, Iterable)
#: Annotations with a class that fits, whatever the value.
_SETTLED = set[tuple[Any, type]]()


def plain(value: Any) -> Any:
    """An array or a column of numpy, pandas or datasets as the list that it stands for; all else as it is."""
    if isinstance(value, (str, bytes, list, tuple)) or _is_torch(value, "Tensor"):
        return value
    convert = getattr(value, "tolist", None)
    return convert() if callable(convert) else value


def checked(function: Callable[..., T]) -> Callable[..., T]:
    """A function that refuses arguments which its annotations exclude; numpy's numbers and lists become Python's.

    Numbers are finite, one string holds no half character, and a path no NUL. `Sequence[str]` are texts, which are
    checked where they are read, with the row's number; `Collection[str]` are names. What only type checkers know by
    name is not checked, and while a graph is compiled nothing is.

    Raises:
        LlinkConfigError: In the function, if an argument does not fit.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> T:
        if _is_compiling():
            return function(*args, **kwargs)
        try:
            given = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own message names the function, too
        given.arguments.update(held(function, given.arguments))
        return function(*given.args, **given.kwargs)

    return call


def checked_methods(owner: type[T]) -> type[T]:
    """A class whose own public methods, and what makes and calls its objects, are [`checked`].

    A processor's `__init__` stays: transformers reads its names out of its code.
    """
    bare = any(base.__name__ == "ProcessorMixin" for base in owner.__mro__)
    for name, member in list(vars(owner).items()):
        if name.startswith("_") and name not in ("__call__", *(() if bare else ("__init__",))):
            continue
        if isinstance(member, (classmethod, staticmethod)):
            setattr(owner, name, type(member)(checked(member.__func__)))
        elif inspect.isfunction(member):
            setattr(owner, name, checked(member))
    return owner


def held(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name in the form in which they go on, those that a function annotates; see [`checked`].

    Raises:
        LlinkConfigError: If one does not fit.
    """
    kinds = _kinds(inspect.unwrap(function))
    return {name: _held(function, name, arguments[name], kinds[name]) for name in kinds.keys() & arguments.keys()}


@functools.cache
def _kinds(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's named arguments, those that can be known here."""
    found = dict[str, Any]()
    for name, parameter in inspect.signature(function).parameters.items():
        kind = parameter.annotation
        if kind is inspect.Parameter.empty or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        try:
            found[name] = eval(kind, dict(function.__globals__)) if isinstance(kind, str) else kind
        except NameError:  # imported for type checkers alone
            continue
    return found


def _held(function: Callable[..., Any], name: str, value: Any, kind: Any) -> Any:
    if (kind, type(value)) in _SETTLED:  # every step of an answer comes by here
        return value
    if _fits(value, kind):
        if value is None or _is_torch(value, "Tensor"):
            _SETTLED.add((kind, type(value)))
        return value
    for form in (plain(value), _python_number(value)):
        if form is not value and _fits(form, kind):
            return form
    wanted = str(inspect.signature(function).parameters[name].annotation).replace("'", "")
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
    raise LlinkConfigError(
        f"{function.__qualname__}: {name}={shown} ({type(value).__name__}) is not what it takes: {wanted}."
    )


def _python_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        is_path = isinstance(value, str) and any(part is os.PathLike or part is Path for part in inner)
        return _can_be_path(value) if is_path else any(_fits(value, part) for part in inner)
    if origin is Literal:
        return value in inner
    if kind is None or kind is NoneType:
        return value is None
    if origin is Any or not isinstance(origin, type) or origin.__module__.startswith("datasets"):
        return True  # data in whatever form are taken, or refused by name, where they are read
    if origin is int or origin is float:
        return isinstance(value, (int, float) if origin is float else int) and math.isfinite(value)
    if origin in _ROWS and inner:
        return _is_rows(value, origin, inner[0])
    if issubclass(origin, Mapping) and len(inner) == 2:
        return isinstance(value, Mapping) and all(_fits(part, inner[1]) for part in value.values())
    return _is_one(value, origin)


def _is_rows(value: Any, origin: Any, inner: Any) -> bool:
    if inner is str and origin is not Collection:
        return plain(value) is value
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, origin):
        return False
    return not isinstance(value, Collection) or all(_fits(part, inner) for part in value)


def _is_one(value: Any, kind: type) -> bool:
    """Whether it is an object of a class, or of the copy of it that a checkpoint's own code brings."""
    if any(_is_torch_class(base, "Module") for base in kind.__mro__):
        return _is_torch(value, "Module")
    if kind is str:
        return isinstance(value, str) and half_character(value) is None
    if isinstance(value, kind):
        return not issubclass(kind, os.PathLike) or _can_be_path(str(value))
    return any(base.__name__ == kind.__name__ for base in type(value).__mro__)


def _can_be_path(path: str) -> bool:
    return "\0" not in path and half_character(path) is None


# torch is not imported for this: commands without models start without it


def _is_torch(value: Any, name: str) -> bool:
    return any(_is_torch_class(base, name) for base in type(value).__mro__)


def _is_torch_class(kind: type, name: str) -> bool:
    return kind.__name__ == name and kind.__module__.partition(".")[0] == "torch"


def _is_compiling() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()

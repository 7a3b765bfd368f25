"""Values of options that come from a file: of the option's type, as they would be from the command line."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from transformers.hf_argparser import string_to_bool

from ..configuration_llink import LlinkConfigError

DTYPES = ("auto", "float32", "float16", "bfloat16", "float64")
#: How transformers spreads a model over several devices.
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
#: What numpy's generator takes; transformers seeds it beside torch's and Python's.
_SEEDS = 2**32
_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text, in quotes where YAML reads something else",
    dict: "a mapping",
}
_FROM_TEXT: dict[Any, Callable[[str], Any]] = {bool: string_to_bool, int: int, float: float}
#: What a type takes besides itself; true and false are no numbers.
_ACCEPTED: dict[Any, Any] = {float: (int, float), str: (int, str), dict: Mapping}
_MISFITS = (ValueError, TypeError, ArgumentTypeError)


@cache
def option_types(owner: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name."""
    return get_type_hints(owner)


def typed(name: str, value: Any, kind: Any) -> Any:
    """A value as an option of a type takes it: text that reads as a number becomes one, one value for a list a list.

    YAML reads `1e-4` as text and `no` as false; a whole number may stand for a number or for text.

    Args:
        name: The option's, for the message.
        value: What YAML read.
        kind: The annotation of the option's field.

    Raises:
        LlinkConfigError: If the value does not fit; names option, value and type.
    """
    try:
        return _typed(value, kind)
    except _MISFITS as error:
        raise LlinkConfigError(f"{name}: {value!r} must be {_described(kind)}.") from error


def check_dtype(name: str, dtype: str) -> None:
    """Refuses a dtype in which no base is loaded.

    Raises:
        LlinkConfigError: If it is none of `DTYPES`.
    """
    if dtype not in DTYPES:
        raise LlinkConfigError(f"{name} {dtype!r} is not one of {', '.join(DTYPES)}.")


def check_device_map(name: str, device_map: str | None) -> None:
    """Refuses a device that this machine does not have.

    Raises:
        LlinkConfigError: If it is none of `DEVICE_MAPS`, nor the CPU, nor an accelerator that is there.
    """
    if device_map is None or device_map in (*DEVICE_MAPS, "cpu"):
        return
    import torch  # commands without models start faster without it

    there = ["cpu"]
    if torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator().type
        there += [kind, *(f"{kind}:{index}" for index in range(torch.accelerator.device_count()))]
    if device_map not in there:
        raise LlinkConfigError(
            f"{name} {device_map!r}: this machine has {', '.join(there)}; or {', '.join(DEVICE_MAPS)}."
        )


def check_seed(name: str, seed: int) -> None:
    """Refuses a seed that not every generator takes.

    Raises:
        LlinkConfigError: If it is negative or has more than 32 bits.
    """
    if not 0 <= seed < _SEEDS:
        raise LlinkConfigError(f"{name} {seed} must be between 0 and {_SEEDS - 1}.")


def _typed(value: Any, kind: Any) -> Any:
    """The value, or one of `_MISFITS`."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if kind is Any or (value is None and kind is NoneType):
        return value
    if origin in (Union, UnionType):
        return _first_that_fits(value, inner)
    if origin is Literal:
        return inner[inner.index(value)]
    if origin is list:
        return [_typed(item, *inner) for item in (value if isinstance(value, list) else [value])]
    if origin in _FROM_TEXT and isinstance(value, str):
        return _FROM_TEXT[origin](value)
    if isinstance(origin, type) and issubclass(origin, Enum):
        return origin(value)
    if origin is bool and value in (0, 1):
        return bool(value)
    if isinstance(value, _ACCEPTED.get(origin, origin)) and not isinstance(value, bool):
        return str(value) if origin is str else value
    raise TypeError(f"{value!r} is no {kind}")


def _first_that_fits(value: Any, kinds: tuple[Any, ...]) -> Any:
    for kind in kinds:
        try:
            return _typed(value, kind)
        except _MISFITS:
            continue
    raise TypeError(f"{value!r} is none of {kinds}")


def _described(kind: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_described(part) for part in inner if part is not NoneType))
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is list:
        return f"a list, each of it {_described(*inner)}"
    if isinstance(origin, type) and issubclass(origin, Enum):
        return f"one of {', '.join(str(member.value) for member in origin)}"
    return _KINDS.get(origin, str(getattr(origin, "__name__", origin)))

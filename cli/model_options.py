"""The options of a model: fields of `LlinkConfig`, with the help that its docstring gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import field, make_dataclass
from typing import Any, get_args

#: Fields that say what a model is and where it came from, and are no settings; the bases have options of their own.
NOT_OPTIONS = (
    *("encoder_config", "decoder_config", "encoder_name_or_path", "decoder_name_or_path"),
    *("encoder_revision", "decoder_revision", "stage", "lora_merged", "tie_word_embeddings"),
)


def args_of_docstring(text: str) -> dict[str, str]:
    """The section `Args:` of a docstring by name; names that share a line share its text."""
    section = text.partition("Args:\n")[2]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line.strip() and not line.startswith("    "):
            break  # the next section
        if match := re.match(r"    (\w[^:`]*\(.*?\)): (.*)", line):
            names = re.findall(r"(\w+) \(", match.group(1))
            found |= dict.fromkeys(names, match.group(2))
        else:
            found |= {name: f"{found[name]} {line.strip()}".strip() for name in names}
    return {name: value.replace("`", "") for name, value in found.items()}


def chosen_fields(names: Iterable[str], prefixes: Sequence[str]) -> list[str]:
    """The names that begin with one of some prefixes; all, where there are none."""
    return [name for name in names if not prefixes or name.startswith(tuple(prefixes))]


def config_fields(*prefixes: str) -> type:
    """A dataclass of the settings of `LlinkConfig`, none of them set.

    Args:
        prefixes: What the names of those that are wanted begin with; all when none is given.
    """
    import inspect

    from ..configuration_llink import LlinkConfig

    texts = args_of_docstring(inspect.cleandoc(LlinkConfig.__doc__ or ""))
    own = {name: kind for name, kind in LlinkConfig.__annotations__.items() if name not in NOT_OPTIONS}
    fields = [
        (name, _kind(own[name]) | None, field(default=None, metadata={"help": texts.get(name, "").replace("%", "%%")}))
        for name in chosen_fields((n for n in own if n in LlinkConfig.__dataclass_fields__), prefixes)
    ]
    return make_dataclass("ModelOptions", fields, namespace={"__doc__": "The model: fields of LlinkConfig."})


def set_fields(options: Any) -> dict[str, Any]:
    """What was set."""
    return {name: value for name, value in vars(options).items() if value is not None}


def _kind(annotation: Any) -> Any:
    """A type as the parser takes it: a whole number is a number where both will do."""
    choices = set(get_args(annotation))
    if list[int | float] in choices:
        return list[float]
    return float if {int, float} <= choices else annotation

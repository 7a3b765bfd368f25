"""Arguments of all commands: flags over a YAML file over a preset."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from ..trainers.presets import DEFAULT_PRESET, PRESETS, preset


class CommandError(ValueError):
    """A command line that cannot be run."""


def pair_field(required: bool, text: str) -> Any:
    """A field for two line-aligned files; see [`check_two_files`]."""
    return field(default=None, metadata={"help": f"{text} Two files: English, then foreign.", "required": required})


def output_field() -> Any:
    """A field for the folder of an evaluation's record and plots."""
    return field(default=None, metadata={"help": "Also write the record (JSON) and plots (PNG) into this folder."})


def check_two_files(name: str, files: list[str] | None) -> None:
    """Refuses anything but two files.

    Raises:
        CommandError: If there is another number of them.
    """
    if files is not None and len(files) != 2:
        raise CommandError(f"--{name} takes two files, English then foreign; got {len(files)}: {files}.")


def check_positive(args: Any, *names: str, least: int = 1) -> None:
    """Refuses numbers that are too small; what was not given is left alone.

    Raises:
        CommandError: If one is below `least`.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value < least:
            raise CommandError(f"--{name.replace('_', '-')} {value} must be {least} or more.")


def preset_of(argv: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The preset that the flags or the file name; it is needed before the other flags are parsed."""
    early = _early_flags(argv)
    return preset(early.preset or _read_yaml(early.config).get("preset") or DEFAULT_PRESET)


def _early_flags(argv: Sequence[str]) -> Namespace:
    """The two flags from which the others' defaults come."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset")
    parser.add_argument("--config")
    return parser.parse_known_args(argv)[0]


def _read_yaml(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    if not Path(path).is_file():
        raise CommandError(f"--config {path} does not exist.")
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"--config {path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise CommandError(f"--config {path} must hold `name: value` lines.")
    return content


def parse_arguments(command: str, argv: Sequence[str], types: tuple, defaults: dict[str, Any] | None = None) -> tuple:
    """Parses flags over a YAML file over `defaults`.

    Args:
        command: Its name, for the help.
        argv: What follows the name.
        types: Dataclasses; each field is a flag. The first one's docstring is the help's first line.
        defaults: Values that stand in for the dataclasses' own: a preset's. With them there is a flag `--preset`.

    Returns:
        One object of each type.

    Raises:
        CommandError: If the file of `--config` is unreadable or sets an option that does not exist.
    """
    parser = HfArgumentParser(types, prog=f"llink {command}", description=types[0].__doc__, allow_abbrev=False)
    parser.add_argument("--config", help="YAML file of options; flags stand above it.")
    if defaults is not None:
        parser.add_argument("--preset", help=f"{', '.join(PRESETS)}; {DEFAULT_PRESET} when not given.")
    file = _read_yaml(_early_flags(argv).config)
    actions = {action.dest: action for action in parser._actions}
    unknown = sorted(set(file) - set(actions))
    if unknown:
        raise CommandError(f"The file of --config sets unknown options: {', '.join(unknown)}.")
    for name, value in {**(defaults or {}), **file}.items():
        actions[name].required = False
        actions[name].default = value
    *parsed, _ = parser.parse_args_into_dataclasses(list(argv), look_for_args_file=False)
    return tuple(parsed)

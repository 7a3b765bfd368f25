"""Arguments of all commands: flags over a YAML file over a preset."""

from __future__ import annotations

import os
import socket
import sys
from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, get_origin

import yaml
from transformers import HfArgumentParser

from ..configuration_llink import LlinkConfigError, LlinkError
from ..trainers.option_values import check_device_map, check_dtype, check_seed, option_types, typed
from ..trainers.presets import DEFAULT_PRESET, PRESETS, Preset, preset

#: What `HfArgumentParser` reads as true or false.
_TRUTH_VALUES = {"yes", "true", "t", "y", "1", "no", "false", "f", "n", "0"}


class _Parser(HfArgumentParser):
    """Raises where argparse would print the whole usage and end the process; knows options by their place."""

    positionals: tuple[str, ...] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Namespace, list[str]]:
        """As argparse; words that no flag takes are the positionals that were not given by name.

        A switch takes the next word only where that is a truth value: in `--private DIR` it is none.
        """
        args = list(sys.argv[1:] if args is None else args)
        switches = {flag for action in self._actions if action.const is True for flag in action.option_strings}
        for place, word in enumerate(args):
            if word in switches and (args + ["--"])[place + 1].lower() not in _TRUTH_VALUES:
                args[place] = f"{word}=True"
        namespace, rest = super().parse_known_args(args, namespace)
        actions = {action.dest: action for action in self._actions}
        for name in self.positionals:
            words = [word for word in rest if not word.startswith("-")]
            if getattr(namespace, name) is None and words:
                several = actions[name].nargs in ("+", "*")
                setattr(namespace, name, words if several else words[0])
                for word in words if several else words[:1]:
                    rest.remove(word)
            if getattr(namespace, name) is None:
                self.error(f"{name.upper()} is missing")
        return namespace, rest

    def error(self, message: str) -> NoReturn:
        raise LlinkConfigError(f"{message}. `{self.prog} --help` lists the options.")


def parse_early(command: str, argv: Sequence[str], owner: type) -> tuple[Any, list[str]]:
    """Parses the options of one dataclass alone, none of which is required, and leaves the other words.

    Some ask for something else than the command's work, for which nothing else is needed.

    Raises:
        LlinkConfigError: If one of them has an unusable value, on the command line or in the file of `--config`.
    """
    parser = _Parser((owner,), prog=f"llink {command}", add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    _set_defaults(parser, {}, _read_yaml(_early_flags(argv).config))
    parsed, _, rest = parser.parse_args_into_dataclasses(
        list(argv), return_remaining_strings=True, look_for_args_file=False
    )
    return parsed, rest


def check_two_files(name: str, files: list[str] | None) -> None:
    """Refuses anything but two files.

    Raises:
        LlinkConfigError: If there is another number of them.
    """
    if files is not None and len(files) != 2:
        raise LlinkConfigError(f"--{name} takes two files, target (English) then foreign; got {len(files)}: {files}.")


def check_positive(args: Any, *names: str, least: int = 1) -> None:
    """Refuses numbers that are too small; what was not given is left alone.

    Raises:
        LlinkConfigError: If one is below `least`.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value < least:
            raise LlinkConfigError(f"--{name.replace('_', '-')} {value} must be {least} or more.")


def check_free(host: str, port: int) -> None:
    """Refuses an address on which nothing can listen.

    Raises:
        LlinkConfigError: If it is taken, or not this machine's.
    """
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as error:
        raise LlinkConfigError(f"--host {host} --port {port} cannot be listened on: {error}. Choose others.") from error


def _check_shared(args: Any) -> None:
    """Checks what options of these names have in common in all commands, before any long work."""
    options = vars(args)
    for name in ("output_dir", "feature_cache_dir"):
        if options.get(name) is not None:
            _check_writable(name, Path(options[name]))
    if "seed" in options:
        check_seed("--seed", args.seed)
    if "dtype" in options:
        check_dtype("--dtype", args.dtype)
    if "device_map" in options:
        check_device_map("--device_map", args.device_map)


def _check_writable(name: str, folder: Path) -> None:
    """Refuses a path at which no folder is or can be made."""
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise LlinkConfigError(f"--{name} {folder}: {existing} is not a folder. Give another place.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise LlinkConfigError(f"--{name} {folder}: you may not write into {existing}. Give another place.")


def preset_of(argv: Sequence[str]) -> Preset:
    """The preset that the flags or the file name; it is needed before the other flags are parsed."""
    return preset(_named_preset(argv) or DEFAULT_PRESET)


def _named_preset(argv: Sequence[str]) -> str | None:
    early = _early_flags(argv)
    return early.preset or _typed("preset", _read_yaml(early.config).get("preset"), str | None)


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
        raise LlinkConfigError(f"--config {path} does not exist.")
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LlinkConfigError(f"--config {path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise LlinkConfigError(f"--config {path} must hold `name: value` lines.")
    return {str(name): value for name, value in content.items()}


def _typed(name: str, value: Any, kind: Any) -> Any:
    """A value of the file of --config as its option takes it."""
    try:
        return typed(name, value, kind)
    except LlinkConfigError as error:
        raise LlinkConfigError(f"The file of --config: {error}") from error


def _set_defaults(parser: _Parser, values: dict[str, Any], file: dict[str, Any]) -> None:
    """Lets the file's values, above the given ones, stand in for the dataclasses' own.

    argparse itself converts and checks what comes from the command line, but no default.
    """
    kinds = {name: kind for owner in parser.dataclass_types for name, kind in option_types(owner).items()}
    for action in parser._actions:  # an option that is on by default has two: --name and --no_name
        name = action.dest
        given = name in kinds and name in file
        if given and not (file[name] is None and action.default is None):
            action.required, action.default = False, _of_file(action, file[name], kinds[name])
        elif name in values:
            action.required, action.default = False, values[name]


def _of_file(action: Action, value: Any, kind: Any) -> Any:
    """What an option takes from the file of --config."""
    name, value = action.dest, _typed(action.dest, value, kind)
    if value == [] and get_origin(kind) is list and action.default != []:
        raise LlinkConfigError(f"The file of --config: {name} is an empty list; give at least one.")
    if action.choices is not None and value is not None and value not in action.choices:
        known = ", ".join(map(str, action.choices))
        raise LlinkConfigError(f"The file of --config: {name}: {value!r} is not one of {known}.")
    return value


def _parser(command: str, types: tuple, with_preset: bool) -> _Parser:
    parser = _Parser(types, prog=f"llink {command}", description=types[0].__doc__, allow_abbrev=False)
    parser.add_argument("--config", help="YAML file of options; flags stand above it.")
    if with_preset:
        parser.add_argument("--preset", help=f"{', '.join(PRESETS)}; {DEFAULT_PRESET} when not given.")
    return parser


def full_help(command: str, module: ModuleType) -> str:
    """The help of every option of a command, the Trainer's included."""
    return _parser(command, module.OPTIONS, getattr(module, "PRESETS", False)).format_help()


def parse_arguments(
    command: str,
    argv: Sequence[str],
    types: tuple,
    defaults: dict[str, Any] | None = None,
    positionals: tuple[str, ...] = (),
) -> tuple:
    """Parses flags over a YAML file over `defaults`.

    Args:
        command: Its name, for the help.
        argv: What follows the name.
        types: Dataclasses; each field is a flag. The first one's docstring is the help's first line.
        defaults: Values that stand in for the dataclasses' own: a preset's. With them there is a flag `--preset`.
        positionals: Required options that may also be given by their place alone, wherever the flags stand.

    Returns:
        One object of each type.

    Raises:
        LlinkConfigError: If an option does not exist, is missing or has an unusable value, on the command line or in
            the file of `--config`; if a folder to write into cannot be made.
    """
    parser = _parser(command, types, with_preset=defaults is not None)
    if positionals:
        parser.positionals = positionals
        parser.usage = " ".join([parser.prog, *map(str.upper, positionals), "[options]"])
    file = _read_yaml(_early_flags(argv).config)
    names = {action.dest for action in parser._actions} - {"help", "config"}
    unknown = sorted(set(file) - names)
    if unknown:
        raise LlinkConfigError(f"The file of --config sets unknown options: {_with_likely(unknown, names)}.")
    for action in parser._actions:
        if action.dest in positionals:
            action.required, action.default = False, None
    _set_defaults(parser, defaults or {}, file)
    try:
        *parsed, _, rest = parser.parse_args_into_dataclasses(
            list(argv), return_remaining_strings=True, look_for_args_file=False
        )
    except ValueError as error:
        if isinstance(error, LlinkError):
            raise
        raise LlinkConfigError(f"{error}") from error  # such as transformers' check of its own options
    if rest:
        flags = [word for word in rest if word.startswith("-")] or rest
        raise LlinkConfigError(
            f"unknown options: {_with_likely(flags, parser._option_string_actions)}. `{parser.prog} --help` lists the "
            "options."
        )
    for args in parsed:
        _check_shared(args)
    return tuple(parsed)


def _with_likely(unknown: Iterable[str], known: Iterable[str]) -> str:
    """Unknown names, each with the known one that may have been meant."""
    likely = {name: get_close_matches(name, list(known), n=1) for name in unknown}
    return ", ".join(f"{name} (did you mean {found[0]}?)" if found else name for name, found in likely.items())

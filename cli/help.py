"""What `llink COMMAND --help` prints, read from the sources of the options' dataclasses without importing them.

Importing a command loads torch and transformers, which takes seconds; reading takes none. What a command takes stands
in its module: `OPTIONS`, a tuple of dataclasses (and [`config_fields`] of the model's), `EXAMPLE`, and where it has
them `POSITIONALS` and `PRESETS`.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..trainers.presets import PRESETS
from . import COMMANDS, module_name
from .model_options import NOT_OPTIONS, args_of_docstring, chosen_fields

_PACKAGE = Path(__file__).resolve().parent.parent
_WIDTH, _COLUMN = 110, 34
#: The class whose options are transformers' and not ours, and where its source lies.
_TRAINER = "TrainingArguments"


@dataclass(frozen=True)
class Option:
    """An option as its dataclass declares it; `default` is the source text of its value, None where it is required."""

    name: str
    kind: str
    default: str | None
    help: str


@dataclass(frozen=True)
class Group:
    """The options of one dataclass, under the first sentence of its docstring."""

    title: str
    options: list[Option]


def command_help(command: str) -> str:
    """The help of a command: usage, an example, llink's own options in groups, the names of the Trainer's."""
    module = _PACKAGE / "cli" / f"{module_name(command)}.py"
    constants = _constants(module)
    positionals = constants.get("POSITIONALS", ())
    groups = option_groups(command)
    required = [o for group in groups for o in group.options if o.default is None and o.name not in positionals]
    usage = ["usage: llink", command, *map(str.upper, positionals), *(f"--{o.name} {o.kind}".strip() for o in required)]
    parts = [textwrap.fill(" ".join([*usage, "[options]"]), _WIDTH, subsequent_indent="    "), COMMANDS[command]]
    parts.append("example:\n" + textwrap.indent(constants["EXAMPLE"].strip(), "  "))
    parts += ["\n".join([f"{group.title}", *map(_line, group.options)]) for group in groups if group.options]
    shared = [Option("config", "FILE", "None", "YAML file of options, by the same names; flags stand above it.")]
    if constants.get("PRESETS"):
        shared.append(Option("preset", "NAME", "recommended", f"{', '.join(PRESETS)}; stands below flags and file."))
    parts.append("\n".join(["All commands", *map(_line, shared)]))
    if constants.get("PRESETS"):
        parts.append("Presets\n" + textwrap.indent("\n".join(_filled(p.described()) for p in PRESETS.values()), "  "))
    if names := trainer_options(command):
        listed = textwrap.fill(", ".join(names), _WIDTH, initial_indent="  ", subsequent_indent="  ")
        parts.append(f"The Trainer's own (llink {command} --help-all says what they do)\n{listed}")
    return "\n\n".join(parts)


def completion() -> str:
    """A script for bash, and zsh through bashcompinit, that completes commands and our own options."""
    words: dict[str, list[str]] = {}
    for command in COMMANDS:
        first, _, second = command.partition(" ")
        words.setdefault("", []).append(first)
        words.setdefault(first, []).extend([second] if second else [])
        words[command] = words.get(command, []) + [
            f"--{o.name}" for group in option_groups(command) for o in group.options
        ]
    cases = "\n".join(f'    "{name}") found="{" ".join(dict.fromkeys(own))}" ;;' for name, own in words.items())
    return f"""[ -n "$ZSH_VERSION" ] && autoload -U +X bashcompinit && bashcompinit
_llink() {{
  local found="" typed="${{COMP_WORDS[*]:1:COMP_CWORD-1}}" word="${{COMP_WORDS[COMP_CWORD]}}"
  for name in "$typed" "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" "${{COMP_WORDS[1]}}"; do
    case "$name" in
{cases}
    esac
    [ -n "$found" ] && break
  done
  COMPREPLY=($(compgen -W "$found" -- "$word"))
}}
complete -o default -F _llink llink"""


def with_flags(command: str, message: str) -> str:
    """A message in which settings are named as the command line spells them: `name=value` becomes `--name value`."""
    for name in [o.name for group in option_groups(command) for o in group.options] + trainer_options(command):
        message = re.sub(rf"(?<![\w.-]){name}=True\b", f"--{name}", message)
        message = re.sub(rf"(?<![\w.-]){name}=(?=[^\s=])", f"--{name} ", message)
    return message


@cache
def option_groups(command: str) -> list[Group]:
    """llink's own options of a command, a group for each of its dataclasses."""
    module = _PACKAGE / "cli" / f"{module_name(command)}.py"
    groups = []
    for node in _assigned(module)["OPTIONS"].elts:
        if isinstance(node, ast.Call):  # config_fields(…)
            prefixes = [ast.literal_eval(argument) for argument in node.args]
            groups.append(_config_group(prefixes))
        else:
            path, declared = _class(module, node.id)
            options = list({o.name: o for o in _options(path, declared)}.values())
            groups.append(Group(_first_sentence(declared), options))
    return groups


def trainer_options(command: str) -> list[str]:
    """The names of the Trainer's options that llink's configurations do not declare themselves."""
    module = _PACKAGE / "cli" / f"{module_name(command)}.py"
    trains = any(
        isinstance(node, ast.Name) and _TRAINER in _ancestors(*_class(module, node.id))
        for node in _assigned(module)["OPTIONS"].elts
    )
    own = {o.name for group in option_groups(command) for o in group.options}
    return [name for name in _trainer_names() if name not in own] if trains else []


# ---------------------------------------------------------------------- reading sources


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _assigned(path: Path) -> dict[str, Any]:
    """The nodes of a module's plain and annotated assignments by name."""
    found = {}
    for node in _tree(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def _constants(path: Path) -> dict[str, Any]:
    values = {}
    for name, node in _assigned(path).items():
        try:
            values[name] = ast.literal_eval(node)
        except ValueError:
            continue
    return values


def _imported(path: Path, name: str) -> Path | None:
    """The file of this package from which a module imports a name; None if it is no file of ours."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level and any(alias.name == name for alias in node.names):
            file = path.parents[node.level - 1].joinpath(*(node.module or "__init__").split("."))
            return file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    return None


def _class(path: Path, name: str) -> tuple[Path, ast.ClassDef]:
    """Where a class that a module knows by a name is declared."""
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return path, node
    source = _imported(path, name)
    if source is None:
        raise LookupError(f"{path.name} neither declares nor imports {name}.")
    return _class(source, name)


def _bases(path: Path, declared: ast.ClassDef) -> Iterator[tuple[Path, ast.ClassDef] | str]:
    for base in declared.bases:
        name = ast.unparse(base)
        here = any(isinstance(node, ast.ClassDef) and node.name == name for node in _tree(path).body)
        yield _class(path, name) if here or _imported(path, name) else name


def _ancestors(path: Path, declared: ast.ClassDef) -> set[str]:
    names: set[str] = set()
    for base in _bases(path, declared):
        names |= {base} if isinstance(base, str) else _ancestors(*base)
    return names


def _options(path: Path, declared: ast.ClassDef) -> Iterator[Option]:
    """The fields of a dataclass, its bases' first; of those outside llink none."""
    for base in _bases(path, declared):
        if not isinstance(base, str):
            yield from _options(*base)
    for node in declared.body:
        named = isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if named and "ClassVar" not in ast.unparse(node.annotation):
            default, text = _declared(path, node.value)
            yield Option(node.target.id, _kind(node.annotation), default, text)


def _config_group(prefixes: list[str]) -> Group:
    path = _PACKAGE / "configuration_llink.py"
    _, declared = _class(path, "LlinkConfig")
    texts = args_of_docstring(ast.get_docstring(declared) or "")
    options = {option.name: option for option in _options(path, declared) if option.name not in NOT_OPTIONS}
    chosen = chosen_fields(options, prefixes)
    title = "The model: fields of LlinkConfig"
    # Unset ones are None, so a switch is given its value.
    return Group(title, [Option(n, options[n].kind or "BOOL", options[n].default, texts.get(n, "")) for n in chosen])


def _declared(path: Path, value: ast.expr | None) -> tuple[str | None, str]:
    """The default and the help of a field from the expression that declares it."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "field"):
        return (None if value is None else _shown(path, value)), ""
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    metadata = _value(path, given["metadata"]) if "metadata" in given else {}
    if "default_factory" in given:
        factory = given["default_factory"]
        default: str | None = _shown(path, factory.body) if isinstance(factory, ast.Lambda) else "None"
    else:
        default = _shown(path, given["default"]) if "default" in given else None
    return (None if metadata.get("required") else default), str(metadata.get("help", ""))


def _shown(path: Path, value: ast.expr) -> str:
    """A default as the command line would take it."""
    literal = _value(path, value)
    return " ".join(map(str, literal)) if isinstance(literal, (list, tuple, dict)) else str(literal)


def _value(path: Path, node: ast.expr) -> Any:
    """What an expression of a declaration stands for; what is too deep stands for its own source text.

    Understood are literals, constants by name, `list(…)`, `", ".join(…)` and f-strings.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [part for item in items for part in _parts(path, item)]
        case ast.Dict(keys=keys, values=values) if all(keys):
            return {_value(path, key): _value(path, item) for key, item in zip(keys, values, strict=True) if key}
        case ast.JoinedStr(values=parts):
            return "".join(str(_value(path, part)) for part in parts)
        case ast.FormattedValue(value=inner) | ast.Call(func=ast.Name(id="list"), args=[inner]):
            return _value(path, inner)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=separator), attr="join"), args=[inner]):
            return separator.join(map(str, _value(path, inner)))
        case ast.Name(id=name):
            here = _assigned(path).get(name)
            source = path if here is not None else _imported(path, name)
            if here is None and source is not None:
                return _value(source, node)
            return name if here is None else _value(path, here)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _parts(path: Path, item: ast.expr) -> list[Any]:
    """An item of a list, or the items that a starred one stands for."""
    if isinstance(item, ast.Starred):
        inner = _value(path, item.value)
        return list(inner) if isinstance(inner, (list, tuple, dict)) else [inner]
    return [_value(path, item)]


def _kind(annotation: ast.expr) -> str:
    """The type of an option in a word: `INT`, `{a,b}`, `STR …`; nothing for a switch."""
    text = ast.unparse(annotation)
    if match := re.search(r"Literal\[(.*?)\]", text):
        return "{" + ",".join(re.findall(r"'([^']*)'", match.group(1))) + "}"
    words = [word for word in re.findall(r"\w+", text) if word not in ("None", "dict", "Any", "list")]
    if "bool" in words:
        return ""
    word = "FLOAT" if "float" in words else (words[0].upper() if words else "JSON")
    return f"{word} …" if "list" in text else word


@cache
def _trainer_names() -> list[str]:
    spec = find_spec("transformers")
    path = Path(spec.origin).with_name("training_args.py")
    (declared,) = [n for n in _tree(path).body if isinstance(n, ast.ClassDef) and n.name == _TRAINER]
    return [option.name for option in _own_options(path, declared) if not option.name.startswith("_")]


def _own_options(path: Path, declared: ast.ClassDef) -> Iterator[Option]:
    for node in declared.body:
        given = node.value if isinstance(node, ast.AnnAssign) else None
        if isinstance(given, ast.Call) and not any(k.arg == "init" for k in given.keywords):
            yield Option(node.target.id, "", "", "")


# ---------------------------------------------------------------------- printing


def _line(option: Option) -> str:
    default = "" if option.default in (None, "None", "", "False") else f" [{option.default}]"
    kind = "BOOL" if option.default == "True" and not option.kind else option.kind  # it is on: a value turns it off
    head = f"  --{option.name} {kind}".rstrip()
    text = option.help.replace("%%", "%") + default
    head = head if len(head) < _COLUMN - 1 else f"{head}\n"
    first = head.ljust(_COLUMN) if "\n" not in head else head + " " * _COLUMN
    lines = textwrap.wrap(text, _WIDTH - _COLUMN) or [""]
    return (first + f"\n{' ' * _COLUMN}".join(lines)).rstrip()


def _filled(text: str) -> str:
    lines = text.splitlines()
    return "\n".join(textwrap.fill(line, _WIDTH - 4, subsequent_indent="      ") for line in lines)


def _first_sentence(declared: ast.ClassDef) -> str:
    text = " ".join((ast.get_docstring(declared) or declared.name).split("\n\n")[0].split())
    return re.sub(r"\[`~?([^`\]]*)`\]", r"\1", text)

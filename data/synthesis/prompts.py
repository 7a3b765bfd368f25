"""What the language model is asked: one Jinja file a task, which a user may read, copy and change.

A file is a chat: lines `--- user` and `--- assistant` begin its turns, of which the first and the last are the user's.
A file without such lines is one message.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...configuration_llink import FOREIGN_TOKEN, LlinkConfigError
from .tasks import TASK_TABLE

PROMPT_FOLDER = Path(__file__).parent / "prompts"
_ENDING = ".jinja"
_PROBE = "probe-english-probe"
_TURN = re.compile(r"^--- (user|assistant)[ \t]*\n", re.MULTILINE)
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)


class Prompts:
    """The prompts of some tasks, checked when they are read.

    Args:
        tasks: Their names.
        folder: With files `TASK.jinja` in place of llink's own. A task without a file there has llink's.
        language: English name of the target language, in which answers are.

    Attributes:
        digests: Task → SHA-256 of its prompt.

    Raises:
        LlinkConfigError: If the folder is missing or holds other prompts, or one is no UTF-8, no template, no chat, or
            does not show `english` (the target side, also called `target`) and the placeholder.
    """

    def __init__(self, tasks: Iterable[str], folder: str | Path | None = None, language: str = "English") -> None:
        if folder is not None:
            _check_folder(Path(folder))
        article = "an" if language[0] in "AEIOU" else "a"
        self._language = {"language": language, "a_language": f"{article} {language}"}
        self._environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True)
        self.digests: dict[str, str] = {}
        self._turns = {task: self._read(task, folder) for task in tasks}

    def messages(self, task: str, english: str) -> list[dict[str, str]]:
        """The chat about a pair: `role` and `content` of every turn.

        Raises:
            LlinkConfigError: If the template fails on it.
        """
        return [{"role": role, "content": self._render(part, task, english)} for role, part in self._turns[task]]

    def _read(self, task: str, folder: str | Path | None) -> list[tuple[str, Template]]:
        path = prompt_file(task) if folder is None else Path(folder) / f"{task}{_ENDING}"
        path = path if path.is_file() else prompt_file(task)
        try:
            source = path.read_text("utf-8")
            before, *parts = _TURN.split(_COMMENT.sub("", source))
            roles = parts[::2] or ["user"]
            turns = [self._environment.from_string(part.strip()) for part in parts[1::2] or [before]]
        except (OSError, UnicodeDecodeError, TemplateError) as error:
            raise LlinkConfigError(f"The prompt {path} is no Jinja template in UTF-8: {error}.") from error
        if (parts and before.strip()) or roles != (["user", "assistant"] * len(roles))[: len(roles) // 2 * 2 + 1]:
            raise LlinkConfigError(f"The prompt {path} must be turns of user and assistant, the user's first and last.")
        self.digests[task] = hashlib.sha256(source.encode()).hexdigest()
        shown = "\n".join(self._render(turn, task, _PROBE) for turn in turns)
        missing = [name for name, text in (("english", _PROBE), (FOREIGN_TOKEN, FOREIGN_TOKEN)) if text not in shown]
        if missing:
            raise LlinkConfigError(f"The prompt {path} never shows {' and '.join(missing)}.")
        return list(zip(roles, turns, strict=True))

    def _render(self, template: Template, task: str, text: str) -> str:
        try:
            return template.render(english=text, target=text, **self._language)
        except Exception as error:  # a template can raise anything
            raise LlinkConfigError(
                f"The prompt of {task} cannot be filled in: {error}. It may hold `english`, also called `target`, "
                "`language` and `a_language`."
            ) from error


def prompt_file(task: str) -> Path:
    """Where llink's own prompt of a task is."""
    return PROMPT_FOLDER / f"{task}{_ENDING}"


def write_prompts(folder: str | Path) -> list[Path]:
    """Copies llink's own prompts into a folder, to be changed.

    Raises:
        LlinkConfigError: If the folder holds one already, or cannot be written.
    """
    paths = [Path(folder) / prompt_file(task).name for task in TASK_TABLE]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if present := [str(path) for path in paths if path.exists()]:
            raise LlinkConfigError(f"{', '.join(present)} is there already: give another folder.")
        for task, path in zip(TASK_TABLE, paths, strict=True):
            path.write_bytes(prompt_file(task).read_bytes())
    except OSError as error:
        raise LlinkConfigError(f"Cannot write {error.filename}: {error.strerror}.") from error
    return paths


def _check_folder(folder: Path) -> None:
    known = {prompt_file(task).name for task in TASK_TABLE}
    found = {path.name for path in folder.glob(f"*{_ENDING}")}
    if not folder.is_dir() or not found or found - known:
        others = f"; it holds {', '.join(sorted(found - known))}" if found - known else ""
        raise LlinkConfigError(
            f"--prompts {folder} must be a folder of {', '.join(sorted(known))}, some or all{others}."
        )

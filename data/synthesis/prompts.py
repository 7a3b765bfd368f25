"""What the language model is asked: one Jinja file a task, which a user may read, copy and change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...configuration_llink import FOREIGN_TOKEN
from .tasks import TASK_TABLE

PROMPT_FOLDER = Path(__file__).parent / "prompts"
_ENDING = ".jinja"
_PROBE = "probe-english-probe"


class PromptError(ValueError):
    """A prompt that a model cannot be asked with."""


class Prompts:
    """The prompts of some tasks, checked when they are read.

    Args:
        tasks: Their names.
        folder: With files `TASK.jinja` in place of llink's own. A task without a file there has llink's.

    Attributes:
        digests: Task → SHA-256 of its prompt.

    Raises:
        PromptError: If the folder is missing or holds other prompts, or one is no UTF-8, no template, or does not show
            `english` and ask for the placeholder.
    """

    def __init__(self, tasks: Iterable[str], folder: str | Path | None = None) -> None:
        if folder is not None:
            _check_folder(Path(folder))
        self._environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True)
        self.digests: dict[str, str] = {}
        self._templates = {task: self._read(task, folder) for task in tasks}

    def message(self, task: str, english: str) -> str:
        """The message about a pair.

        Raises:
            PromptError: If the template fails on it.
        """
        return _render(self._templates[task], task, english)

    def _read(self, task: str, folder: str | Path | None) -> Template:
        path = prompt_file(task) if folder is None else Path(folder) / f"{task}{_ENDING}"
        path = path if path.is_file() else prompt_file(task)
        try:
            source = path.read_text("utf-8")
            template = self._environment.from_string(source)
        except (OSError, UnicodeDecodeError, TemplateError) as error:
            raise PromptError(f"The prompt {path} is no Jinja template in UTF-8: {error}.") from error
        self.digests[task] = hashlib.sha256(source.encode()).hexdigest()
        shown = _render(template, task, _PROBE)
        missing = [name for name, text in (("english", _PROBE), (FOREIGN_TOKEN, FOREIGN_TOKEN)) if text not in shown]
        if missing:
            raise PromptError(f"The prompt {path} never shows {' and '.join(missing)}.")
        return template


def prompt_file(task: str) -> Path:
    """Where llink's own prompt of a task is."""
    return PROMPT_FOLDER / f"{task}{_ENDING}"


def write_prompts(folder: str | Path) -> list[Path]:
    """Copies llink's own prompts into a folder, to be changed.

    Raises:
        PromptError: If the folder holds one already, or cannot be written.
    """
    paths = [Path(folder) / prompt_file(task).name for task in TASK_TABLE]
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if present := [str(path) for path in paths if path.exists()]:
            raise PromptError(f"{', '.join(present)} is there already: give another folder.")
        for task, path in zip(TASK_TABLE, paths, strict=True):
            path.write_bytes(prompt_file(task).read_bytes())
    except OSError as error:
        raise PromptError(f"Cannot write {error.filename}: {error.strerror}.") from error
    return paths


def _check_folder(folder: Path) -> None:
    known = {prompt_file(task).name for task in TASK_TABLE}
    found = {path.name for path in folder.glob(f"*{_ENDING}")}
    if not folder.is_dir() or not found or found - known:
        others = f"; it holds {', '.join(sorted(found - known))}" if found - known else ""
        raise PromptError(f"--prompts {folder} must be a folder of {', '.join(sorted(known))}, some or all{others}.")


def _render(template: Template, task: str, english: str) -> str:
    try:
        return template.render(english=english)
    except Exception as error:  # a template can raise anything
        raise PromptError(f"The prompt of {task} cannot be filled in: {error}. It may hold `english`.") from error

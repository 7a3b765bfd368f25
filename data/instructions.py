"""Instruction rows of Stage B: a prompt about foreign text, and the answer (paper 4.2, 5.1)."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..arguments_llink import checked
from ..characters_llink import half_character
from ..configuration_llink import FOREIGN_TOKEN
from ..modeling_llink.copying import asks_for_translation
from .errors import DataError
from .pairs import target_column
from .shapes import conversation_row, pair_dataset
from .target import ANY_LANGUAGE, language_of, task_in, translation_prompt

#: The paper's task templates (4.2), by the buckets of its judge (table 2). Other tasks stand under `other`.
BUCKETS = {
    "content understanding": (
        "translate_to_english",
        "summarize_in_english",
        "bullet_pointify",
        "paraphrase",
        "title",
    ),
    "Q&A": ("qa_about_text",),
}
OTHER_BUCKET = "other"
TASKS = ("translate_to_english", "summarize_in_english", "bullet_pointify", "qa_about_text", "paraphrase", "title")
REQUIRED = ("foreign", "prompt", "completion")
OPTIONAL = ("id", "task", "english", "target")


def bucket_of(task: str) -> str:
    """The paper's bucket of a task (table 2); `other` for a task that is in neither."""
    return next((bucket for bucket, tasks in BUCKETS.items() if _in_english(task) in tasks), OTHER_BUCKET)


def _in_english(task: str) -> str:
    return next((english for english, other in ANY_LANGUAGE.items() if other == task), task)


@checked
def read_instructions(path: str | Path) -> Dataset:
    """Reads a JSONL file of instruction rows.

    Args:
        path: One JSON object a line: `foreign` (a string, or a list of strings), `prompt` (passages stand
            where it says `<foreign_emb>`, or follow it), `completion`, and optionally `id`, `task` and `english` or
            `target` (the reference, in the language of the answer).

    Returns:
        A dataset with columns `id`, `foreign` (list of strings), `prompt`, `completion`, `task`, `english`.

    Raises:
        DataError: If the file is missing, empty, not UTF-8, not JSON, or a row is unusable; names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"The instruction file {path} does not exist.")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DataError(f"{path}, line {number} is not one JSON object in UTF-8: {error}") from error
        rows.append(_checked(row, f"{path}, line {number}", str(len(rows))))
    if not rows:
        raise DataError(f"The instruction file {path} holds no rows.")
    return Dataset.from_list(rows)


@checked
def instruction_dataset(rows: Any, limit: int | None = None, **columns: str) -> Dataset:
    """Checks instruction rows that are already in memory and puts them into the columns of `read_instructions`.

    ```python
    instruction_dataset(dataset, prompt="instruction", foreign="input", completion="output")
    ```

    Args:
        rows: A dataset, a stream or a list of dicts with `foreign`, `prompt` and `completion` as in
            [`read_instructions`]; or TRL's conversations, `messages` or `prompt` and `completion` as messages, with
            foreign text in parts `{"type": "foreign_text", "text": …}`, of which the last answer is trained on.
        limit: The first so many rows; all when not given.
        columns: What its columns are called, where it is otherwise: `prompt="instruction"`.

    Returns:
        The columns of [`read_instructions`]; of conversations also `messages`, as JSON. Rows that ask for a translation
        and have no `english` have their completion for it.

    Raises:
        DataError: If there are none, or one is unusable; names the row.
    """
    if isinstance(rows, Mapping):
        raise DataError(f"The instruction rows are several splits, {', '.join(rows)}: give one of them.")
    if not isinstance(rows, Iterable) or isinstance(rows, (str, bytes)):
        name = type(rows).__name__
        raise DataError(f"The instruction rows are a {name}: give a dataset, a stream or a list of dicts.")
    own = {name: column for name, column in columns.items() if column}
    if unknown := set(own) - {*REQUIRED, *OPTIONAL}:
        raise DataError(f"{sorted(unknown)} are no columns of instruction rows: name {', '.join(REQUIRED + OPTIONAL)}.")
    checked = [
        _checked(_renamed(row, own), f"Row {index}", str(index)) for index, row in enumerate(islice(rows, limit))
    ]
    if not checked:
        raise DataError("There are no instruction rows.")
    if any("messages" in row for row in checked):
        checked = [{"messages": "", **row} for row in checked]
    return Dataset.from_list(checked)


def _renamed(row: Any, columns: Mapping[str, str]) -> Any:
    if not isinstance(row, Mapping) or not columns:
        return row
    return {**row, **{name: row.get(column) for name, column in columns.items()}}


@checked
def translation_instructions(pairs: Any, prompt: str | None = None) -> Dataset:
    """Translation rows made from parallel pairs alone, so that Stage B can start without a language model.

    Args:
        pairs: Rows with `id`, `english` (or `target`) and `foreign`; `target_language` where it is not English. What
            else [`pair_dataset`] takes is made of them first.
        prompt: The instruction, `Translate to English.` or to what the row says when not given; without a
            placeholder, one stands on the line after it, as in inference.

    Raises:
        DataError: If there are none, or one is unusable.
        LlinkConfigError: If a row's target language has no name here, and no prompt is given.
    """
    if isinstance(pairs, Iterable) and not isinstance(pairs, (Dataset, Mapping, str, bytes)):
        pairs = list(pairs)
    pairs = pair_dataset(pairs, name="The pairs")
    return instruction_dataset(
        {
            "id": pair["id"],
            "foreign": pair["foreign"],
            "prompt": _placed(prompt or translation_prompt(language_of(pair))),
            "completion": pair[target_column(pair, "A pair")],
            "task": task_in(language_of(pair), "translate_to_english"),
            "english": pair[target_column(pair, "A pair")],
        }
        for pair in pairs
    )


def _placed(prompt: str) -> str:
    return prompt if FOREIGN_TOKEN in prompt else f"{prompt}\n{FOREIGN_TOKEN}"


def _checked(row: Any, where: str, default_id: str) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise DataError(f"{where} is a {type(row).__name__}, not a JSON object.")
    row = dict(row)
    if isinstance(row.get("messages"), (list, tuple)) or isinstance(row.get("prompt"), (list, tuple)):
        row = conversation_row(row, where)
    missing = [name for name in REQUIRED if not row.get(name)]
    if missing:
        raise DataError(
            f"{where} lacks {', '.join(missing)}; every row needs {', '.join(REQUIRED)}, and has {', '.join(row)}. Of "
            "other names, say which is what: instruction_dataset(rows, prompt='instruction', foreign='input', "
            "completion='output'). Of pairs, make rows with translation_instructions(pairs)."
        )
    foreign = [row["foreign"]] if isinstance(row["foreign"], str) else row["foreign"]
    if not isinstance(foreign, list) or not all(isinstance(t, str) and t.strip() and "\0" not in t for t in foreign):
        raise DataError(f"{where}: foreign is {row['foreign']!r}; give non-empty text, or a list of texts.")
    for name in ("prompt", "completion"):
        if not isinstance(row[name], str) or not row[name].strip():
            raise DataError(f"{where}: {name} is {row[name]!r}; give non-empty text.")
    for text in (*foreign, row["prompt"], row["completion"], str(row.get("english") or "")):
        if (place := half_character(text)) is not None:
            raise DataError(
                f"{where}: {text[:40]!a} holds half a character at position {place}; read it anew as UTF-8."
            )
    placeholders = row["prompt"].count(FOREIGN_TOKEN)
    if placeholders not in (0, len(foreign)) and not row.get("messages"):
        raise DataError(
            f"{where}: the prompt holds {placeholders} {FOREIGN_TOKEN} placeholder(s) for {len(foreign)} passage(s). "
            "Give exactly one passage for each placeholder, or no placeholder: passages then follow the prompt."
        )
    task, english = str(row.get("task") or ""), str(row.get(target_column(row, where)) or "")
    asks = _in_english(task) == TASKS[0] if task else asks_for_translation(row["prompt"])
    return {
        "id": str(row.get("id", default_id)),
        "foreign": foreign,
        "prompt": row["prompt"],
        "completion": row["completion"],
        "task": task,
        "english": english or (row["completion"] if asks else ""),
        **({"messages": row["messages"]} if row.get("messages") else {}),
    }

"""Rows as `load_dataset` gives them → those that training reads: which columns are what, and messages as rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets import Dataset, Value

from ..arguments_llink import checked
from ..configuration_llink import FOREIGN_TOKEN
from ..modeling_llink.prompts import FOREIGN_PART, user_message
from .errors import DataError
from .pairs import target_column
from .scripts import REGION_SCRIPTS, SCRIPTS
from .target import ENGLISH, LANGUAGE_NAMES, TARGET_LANGUAGE

_TRANSLATION = "translation"
#: English in three letters, as FLORES and NLLB name it; other languages' columns are found by ISO 639-1 or name.
_CODES = {"eng": ENGLISH, **{code: code for code in LANGUAGE_NAMES}}
_NAMES = {name.casefold(): code for code, name in LANGUAGE_NAMES.items()}


@checked
def pair_dataset(
    rows: Any, english: str | None = None, foreign: str | None = None, name: str = "The dataset"
) -> Dataset:
    """Parallel text as it comes, as pairs: `id`, `english` or `target`, `foreign`.

    ```python
    pair_dataset(load_dataset("user/corpus", split="train"))  # columns `en` and `km`, or {"translation": {"en", "km"}}
    pair_dataset([{"source": "A cat.", "khmer": "ឆ្មា។"}], english="source", foreign="khmer")
    ```

    Args:
        rows: A `datasets.Dataset`, or a list of dicts. Columns of pairs are taken as they are; else the two that are
            named for languages (`en`, `km-KH`, `Khmer`), beside each other or in a column `translation`; the side that
            is not English is foreign.
        english: The column of the target side, where its name does not say so.
        foreign: The column of the foreign side.
        name: How errors call it.

    Returns:
        The same object where nothing is to do; else with a column `id` that counts rows, where there is none, and
        `language`, where a column's name says it.

    Raises:
        DataError: If it is none of these, a column that is named is missing, or it cannot be told which two are meant.
    """
    table = _table(rows, name)
    if _TRANSLATION in table.column_names and _is_struct(table.features[_TRANSLATION]):
        table = table.select_columns([_TRANSLATION] if "id" in table[0][_TRANSLATION] else table.column_names).flatten()
        table = table.rename_columns({c: c.removeprefix(f"{_TRANSLATION}.") for c in table.column_names})
    if missing := [column for column in (english, foreign) if column is not None and column not in table.column_names]:
        raise DataError(f"{name} lacks the columns {missing}: it has {table.column_names}.")
    names = {} if english is None else {english: "english"}
    names |= {} if foreign is None else {foreign: "foreign"}
    if not names and not {"foreign", target_column(table.column_names, name)} <= set(table.column_names):
        names = _sides_by_language(table.column_names, name)
    languages = {side: language_of_column(column) for column, side in names.items()}
    changed = {old: new for old, new in names.items() if old != new}
    table = table.rename_columns(changed) if changed else table
    if languages.get("foreign") and "language" not in table.column_names:
        table = table.add_column("language", [languages["foreign"]] * len(table))
    if languages.get("english") not in (None, ENGLISH) and TARGET_LANGUAGE not in table.column_names:
        table = table.rename_column("english", "target")
        table = table.add_column(TARGET_LANGUAGE, [languages["english"]] * len(table))
    if "id" not in table.column_names:
        return table.add_column("id", list(map(str, range(len(table)))))
    strings = table.features["id"].dtype in ("string", "large_string")
    return table if strings else table.cast_column("id", Value("string"))


def _table(rows: Any, name: str) -> Dataset:
    if isinstance(rows, Dataset):
        return rows if rows.format["type"] is None else rows.with_format(None)
    if isinstance(rows, (list, tuple)) and rows and all(isinstance(row, Mapping) for row in rows):
        try:
            return Dataset.from_list([dict(row) for row in rows])
        except (ValueError, TypeError) as error:  # pyarrow's, of columns of several types
            raise DataError(f"{name}: the rows do not make columns: {error}") from error
    if isinstance(rows, Mapping) and rows and all(isinstance(part, Dataset) for part in rows.values()):
        raise DataError(
            f"{name} is several splits, {', '.join(rows)}: give one, such as dataset[{next(iter(rows))!r}]."
        )
    if hasattr(rows, "take"):
        raise DataError(
            f"{name} is a stream, and every pair is read more than once: give list(stream.take(N)), or load it without "
            "streaming. Stage B takes streams."
        )
    raise DataError(
        f"{name} is a {type(rows).__name__}{'' if rows else ' of no rows'}; give a datasets.Dataset of pairs (see "
        "read_pairs), or a list of dicts."
    )


def _is_struct(feature: Any) -> bool:
    return isinstance(feature, dict) or hasattr(feature, "languages")


def language_of_column(column: str) -> str | None:
    """The language that a column is named for, by its code, BCP-47 tag or English name; None where it is none."""
    first, *more = re.split(r"[-_]", column)
    if any(not (len(part) in (2, 3) or part.title() in {**SCRIPTS, **REGION_SCRIPTS}) for part in more):
        return None
    return _NAMES.get(column.casefold()) or _CODES.get(first.lower())


def _sides_by_language(columns: Sequence[str], name: str) -> dict[str, str]:
    """Column → side, of two columns of which one is in English."""
    found = {column: language for column in columns if (language := language_of_column(column))}
    if len(columns) > 2:
        found.pop("id", None)  # which names rows; Indonesian it is beside English alone, or in a column `translation`
    own = [column for column, language in found.items() if language == ENGLISH]
    if len(found) == 2 and len(own) == 1:
        (other,) = set(found) - set(own)
        return {own[0]: "english", other: "foreign"}
    missing = [side for side in ("english", "foreign") if side not in columns]
    which = f"of {list(found)} it is not plain which are meant" if found else "no two of them are named for languages"
    raise DataError(
        f"{name} lacks the columns {missing}: it has {list(columns)}, and {which}. Say it: pair_dataset(dataset, "
        "english='…', foreign='…'), where english is the side that is answered in."
    )


# ---------------------------------------------------------------------- conversations


def conversation_row(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A row of TRL's `messages`, or of its `prompt` and `completion` as messages, as an instruction row.

    Foreign text stands in the messages as parts `{"type": "foreign_text", "text": …}`; the last answer is trained on.

    Returns:
        The row with `foreign`, `prompt` (the last question, to be read), `completion` and `messages` (JSON; passages
        as parts without their text).

    Raises:
        DataError: If it does not end in an answer, or a message is malformed.
    """
    asked, answer = row.get("prompt"), row.get("completion")
    if row.get("messages"):
        *asked, answer = row["messages"]
    elif isinstance(answer, (list, tuple)):
        asked, answer = [*(asked or ()), *answer[:-1]], (answer or [None])[-1]
    else:
        answer = {"role": "assistant", "content": answer}
    if not isinstance(answer, Mapping) or answer.get("role") != "assistant" or not asked:
        raise DataError(f"{where}: the messages do not end in a question and an assistant's answer.")
    foreign: list[Any] = []
    told = [_told(message, where, foreign) for message in asked]
    if not foreign:
        raise DataError(
            f"{where}: the messages hold no foreign text. Put it into a part of its own: "
            f"{{'type': '{FOREIGN_PART}', 'text': str}}."
        )
    completion = "".join(text for _, text in _parts(answer, where))
    prompt = "".join(FOREIGN_TOKEN if kind == FOREIGN_PART else text for kind, text in _parts(asked[-1], where))
    own = {name: value for name, value in row.items() if name != "messages"}
    return {**own, "foreign": foreign, "prompt": prompt, "completion": completion, "messages": json.dumps(told)}


def _told(message: Any, where: str, foreign: list[Any]) -> dict[str, Any]:
    content = []
    for kind, text in _parts(message, where):
        if kind == FOREIGN_PART:
            foreign.append(text)
        content.append({"type": kind, "text": "" if kind == FOREIGN_PART else text})
    return {"role": message["role"], "content": content}


def _parts(message: Any, where: str) -> Iterable[tuple[str, str]]:
    content = message.get("content") if isinstance(message, Mapping) and message.get("role") else None
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content or [None]:
        kind, text = (part.get("type"), part.get("text")) if isinstance(part, Mapping) else (None, None)
        if kind not in ("text", FOREIGN_PART) or not isinstance(text, str):
            raise DataError(
                f"{where}: the message {message!r} is not a role with a string, or with parts {{'type': 'text', "
                f"'text': str}} and {{'type': '{FOREIGN_PART}', 'text': str}}."
            )
        yield kind, text


def row_messages(row: Mapping[str, Any], passages: Sequence[str]) -> list[dict[str, Any]]:
    """An instruction row as the conversation up to its answer, about these passages in place of its own."""
    if not row.get("messages"):
        return [user_message(row["prompt"], passages)]
    messages, texts = json.loads(row["messages"]), iter(passages)
    for part in (part for message in messages for part in message["content"] if part["type"] == FOREIGN_PART):
        part["text"] = next(texts)
    return messages

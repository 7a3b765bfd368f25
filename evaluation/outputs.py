"""Systems' answers on disk: one JSON line a row, appended as they come, so that a broken run can go on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..arguments_llink import checked
from ..data.errors import DataError
from ..data.one_writer import one_writer
from .report import write_json
from .systems import System

#: Tasks whose answers must hold everything that their source holds; rows without a task are taken for translations.
TRANSLATION_TASKS = ("translate_to_english", "translate", "")


@dataclass(frozen=True)
class OutputRow:
    """A system's answer to one instruction row.

    Attributes:
        id: Of the instruction row.
        task: Such as `translate_to_english`; may be empty.
        foreign: The passages.
        prompt: The instruction, with `<foreign_emb>` where each passage stands.
        reference: The row's `completion`.
        english: The original of the passages in the language of the answer; may be empty.
        output: What the system answered; may be empty.
    """

    id: str
    task: str
    foreign: list[str]
    prompt: str
    reference: str
    english: str
    output: str


_FIELDS = tuple(field.name for field in fields(OutputRow))


def output_rows(rows: Iterable[Mapping[str, Any]], answers: Sequence[str]) -> list[OutputRow]:
    """Joins N instruction rows with N answers.

    Raises:
        DataError: If the numbers differ.
    """
    rows = list(rows)
    if len(rows) != len(answers):
        raise DataError(f"{len(answers)} answers for {len(rows)} instruction rows: give one for each.")
    return [
        OutputRow(
            id=str(row["id"]),
            task=row.get("task") or "",
            foreign=list(row["foreign"]),
            prompt=row["prompt"],
            reference=row["completion"],
            english=row.get("english") or "",
            output=answer,
        )
        for row, answer in zip(rows, answers, strict=True)
    ]


@checked
def read_outputs(path: str | os.PathLike) -> list[OutputRow]:
    """Reads a file of output rows.

    Raises:
        DataError: If the file is missing or empty, or a line is no output row; names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"The outputs {path} do not exist: write them with `llink eval outputs`.")
    lines = path.read_bytes().split(b"\n")
    rows = [_parsed(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise DataError(f"{path} holds no outputs.")
    if repeated := [name for name, count in Counter(row.id for row in rows).items() if count > 1]:
        raise DataError(f"{path} holds {repeated[0]!r} more than once ({len(repeated)} such ids): write it anew.")
    return rows


def _parsed(line: bytes, where: str) -> OutputRow:
    try:
        row = json.loads(line.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{where} is not one JSON object in UTF-8: {error}") from error
    if not isinstance(row, dict) or set(row) != set(_FIELDS):
        found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise DataError(f"{where} holds {found}; an output row has exactly {', '.join(_FIELDS)}.")
    texts = {name: [value] if name != "foreign" else value for name, value in row.items()}
    for name, value in texts.items():
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            wanted = "a list of strings" if name == "foreign" else "a string"
            raise DataError(f"{where}: {name} is {row[name]!r}; it must be {wanted}.")
    return OutputRow(**row)


def write_outputs(path: str | os.PathLike, rows: Iterable[OutputRow]) -> None:
    """Writes a whole file of output rows; it is moved into place when it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(_lines(rows), "utf-8", newline="\n")
    os.replace(temporary, path)


def _lines(rows: Iterable[OutputRow]) -> str:
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def aligned_outputs(*outputs: str | os.PathLike | Sequence[OutputRow]) -> list[list[OutputRow]]:
    """The outputs of several systems, checked to answer the same rows in the same order.

    Args:
        outputs: Files, or lists of rows.

    Returns:
        One list of rows a system.

    Raises:
        DataError: If a file is unreadable, if lengths differ, or if a row's id, or what it asks, differs.
    """
    names = [str(o) if isinstance(o, (str, os.PathLike)) else f"outputs {i}" for i, o in enumerate(outputs)]
    systems = [read_outputs(o) if isinstance(o, (str, os.PathLike)) else list(o) for o in outputs]
    for name, rows in zip(names[1:], systems[1:], strict=True):
        if len(rows) != len(systems[0]):
            raise DataError(
                f"{names[0]} holds {len(systems[0])} outputs and {name} {len(rows)}: let both systems answer the same "
                "rows (`llink eval outputs` goes on where a run stopped)."
            )
        for place, (first, other) in enumerate(zip(systems[0], rows, strict=True), start=1):
            differing = [f for f in _FIELDS if f != "output" and getattr(first, f) != getattr(other, f)]
            if differing:
                field = differing[0]
                raise DataError(
                    f"Row {place} of {names[0]} and {name} differ in {field}: {getattr(first, field)!r} and "
                    f"{getattr(other, field)!r}. Let both systems answer the same instruction file."
                )
    return systems


def named_outputs(paths: Sequence[str | os.PathLike]) -> dict[str, list[OutputRow]]:
    """[`aligned_outputs`] of files by their names without ending, which tell the systems apart.

    Raises:
        DataError: As [`aligned_outputs`]; if two files are called alike, or one is called `foreign` or `reference`.
    """
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names) or {"foreign", "reference"} & set(names):
        raise DataError(f"Outputs are told apart by their file names, which are {', '.join(names)}: rename one.")
    return dict(zip(names, aligned_outputs(*paths), strict=True))


def output_samples(answered: Mapping[str, Sequence[OutputRow]]) -> list[dict[str, str]]:
    """N rows of `foreign`, `reference`, and each system's answer under its name, of systems that answered the same."""
    names = [name for name in answered if name != "reference"]
    return [
        {"foreign": "\n".join(row.foreign), "reference": row.reference}
        | {name: answered[name][place].output for name in names}
        for place, row in enumerate(next(iter(answered.values()), []))
    ]


def generate_outputs(
    system: System,
    rows: Iterable[Mapping[str, Any]],
    path: str | os.PathLike,
    settings: Mapping[str, Any],
    batch_size: int = 16,
    max_new_tokens: int = 64,
    show_progress: bool = False,
) -> dict[str, float | int]:
    """Lets a system answer instruction rows, appending to a file; rows that it already holds are kept.

    Beside the file, `<name>.json` says what its answers were made with, and how long they took.

    Args:
        system: Answers greedily.
        rows: N instruction rows.
        path: JSONL file.
        settings: What the answers depend on; a file that was begun with others is refused.
        batch_size: Rows in one generation.
        max_new_tokens: Length of an answer at most.
        show_progress: Whether to show a bar.

    Returns:
        `n` rows, though the file may hold more, and their mean `prompt_tokens`; `seconds` (all of the generation, over
        every run) and `seconds_per_answer` (mean over all that was generated).

    Raises:
        DataError: If the file was begun with other rows or settings, or another run is writing it.
    """
    with one_writer(path):
        return _generate(system, list(rows), Path(path), settings, batch_size, max_new_tokens, show_progress)


def _generate(
    system: System,
    rows: list[Mapping[str, Any]],
    path: Path,
    settings: Mapping[str, Any],
    batch_size: int,
    max_new_tokens: int,
    show_progress: bool,
) -> dict[str, float | int]:
    log = path.with_suffix(".json")
    settings = {**settings, "max_new_tokens": max_new_tokens}
    done = check_resumable(path, rows, settings)
    timing: dict[str, Any] = (
        json.loads(log.read_text("utf-8")) if done else {"settings": settings, "seconds": 0.0, "answers": 0}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(log, timing)
    _drop_partial_line(path)
    with path.open("a", encoding="utf-8", newline="\n") as file:
        starts = range(done, len(rows), batch_size)
        for start in tqdm(starts, desc=system.name, disable=not show_progress):
            chunk = rows[start : start + batch_size]
            began = time.monotonic()
            answers = system.answer(chunk, batch_size, max_new_tokens)
            seconds = time.monotonic() - began
            file.write(_lines(output_rows(chunk, answers)))
            file.flush()
            os.fsync(file.fileno())
            timing |= {"seconds": timing["seconds"] + seconds, "answers": timing["answers"] + len(chunk)}
            write_json(log, timing)
    lengths = system.prompt_tokens(rows)
    return {
        "n": len(rows),
        "prompt_tokens": sum(lengths) / len(lengths),
        "seconds": round(timing["seconds"], 3),
        "seconds_per_answer": timing["seconds"] / max(timing["answers"], 1),
    }


def source_of(model: str | os.PathLike) -> str:
    """What names a model among the settings of its answers: the SHA-256 of its trained weights, wherever they lie.

    Args:
        model: A folder; of one without weights, and of a repository, the name is taken.
    """
    for weights in ("adapter_model.safetensors", "model.safetensors"):
        path = Path(model) / weights
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return str(model)


def check_resumable(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> int:
    """How many of the rows a file already answers; needs no model, so it can be asked before one loads.

    Raises:
        DataError: If the file was begun with other rows or settings, or is damaged before its last line.
    """
    path = Path(path)
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    kept = [_parsed(x, f"{path}, line {n}") for n, x in enumerate(whole.split(b"\n"), start=1) if x.strip()]
    if not kept:
        return 0
    remedy = "Choose another --output-dir, or remove the file to begin again."
    log = path.with_suffix(".json")
    before = json.loads(log.read_text("utf-8"))["settings"] if log.is_file() else None
    if before != dict(settings):
        changed = [k for k in settings if before is None or before.get(k) != settings[k]]
        raise DataError(f"{path} was begun with other settings ({', '.join(changed) or 'more of them'}). {remedy}")
    for place, (old, new) in enumerate(zip(kept, output_rows(rows, [""] * len(rows)), strict=False), start=1):
        if any(getattr(old, name) != getattr(new, name) for name in _FIELDS if name != "output"):
            raise DataError(
                f"Line {place} of {path} answers example {old.id!r}, but example {new.id!r} of these instructions "
                f"stands there. {remedy}"
            )
    return len(kept)


def _drop_partial_line(path: Path) -> None:
    """Cuts off a last line that a killed run did not write to its end."""
    if path.is_file():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)

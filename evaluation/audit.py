"""A sheet on which people say whether instruction rows are good, and how far two who filled it in agree."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice, zip_longest
from pathlib import Path
from random import Random
from typing import Any

from jinja2 import Environment, StrictUndefined

from ..data.errors import DataError
from .judge import wilson_interval
from .report import write_text

#: Column of a sheet → what is asked about a row, to be answered by yes or no.
QUESTIONS = {
    "task": "Does the answer do what the instruction asks?",
    "content": "Is everything that the answer says in the foreign text, and right?",
}
COLUMNS = ("id", "task_name", "foreign", "target", "prompt", "completion", *QUESTIONS, "note")
SHEET, PAGE = "audit.csv", "audit.html"
_MEANS = {"yes": True, "y": True, "1": True, "no": False, "n": False, "0": False, "": None}
_TEMPLATE = Path(__file__).parent / "audit.html.jinja"


def drawn(rows: Sequence[Mapping[str, Any]], count: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows of a sheet, as many of each task as there are, drawn by chance.

    Args:
        rows: Instruction rows.
        count: How many at most.
        seed: Of the draw.

    Raises:
        DataError: If two rows have one id, by which a sheet tells them.
    """
    if len({str(row["id"]) for row in rows}) < len(rows):
        raise DataError("Two of the instruction rows have the same id: give each its own, or none.")
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for row in Random(seed).sample(list(rows), len(rows)):
        by_task.setdefault(row.get("task") or "", []).append(row)
    turns = (row for turn in zip_longest(*by_task.values()) for row in turn if row is not None)
    return [
        {
            "id": str(row["id"]),
            "task_name": row.get("task") or "",
            "foreign": "\n".join(row["foreign"]),
            "target": row.get("english") or "",
            "prompt": row["prompt"],
            "completion": row["completion"],
            **dict.fromkeys((*QUESTIONS, "note"), ""),
        }
        for row in islice(turns, count)
    ]


def write_sheet(rows: Sequence[Mapping[str, str]], folder: Path) -> tuple[Path, Path]:
    """Writes rows as a spreadsheet and as a page that makes one; each is to be filled in. Returns both files."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / SHEET, "\ufeff" + text.getvalue())  # so that spreadsheets read it as UTF-8
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_TEMPLATE.read_text("utf-8"))
    write_text(folder / PAGE, template.render(rows=rows, questions=QUESTIONS, columns=COLUMNS))
    return folder / SHEET, folder / PAGE


def read_sheet(path: Path) -> dict[str, dict[str, Any]]:
    """A filled-in sheet: the task's name, and what was answered (None: nothing), by the row's id.

    Raises:
        DataError: If it is no sheet, an id stands there twice, an answer is neither yes nor no, or all are missing.
    """
    try:
        lines = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig")), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The sheet {path} cannot be read: {error}") from error
    if not lines or not {"id", "task_name", *QUESTIONS} <= set(lines[0]):
        raise DataError(f"{path} is no sheet of `llink audit`: its columns are {', '.join(COLUMNS)}.")
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        said = {name: (line[name] or "").strip().lower() for name in QUESTIONS}
        if wrong := [name for name, word in said.items() if word not in _MEANS]:
            raise DataError(f"{path}, row {number}: {wrong[0]} is {said[wrong[0]]!r}; answer yes or no, or nothing.")
        if line["id"] in found:
            raise DataError(f"{path}, row {number}: {line['id']!r} stands there twice.")
        found[line["id"]] = {"task_name": line["task_name"], **{name: _MEANS[word] for name, word in said.items()}}
    if all(row[name] is None for row in found.values() for name in QUESTIONS):
        raise DataError(f"Nothing is filled in in {path}: answer yes or no under {' and '.join(QUESTIONS)}.")
    return found


def audited(sheets: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What filled-in sheets say.

    Args:
        sheets: [`read_sheet`] of each, by name.

    Returns:
        `shares`: for each sheet and question the share of yes over all rows and by task, with `n` and a 95 % (Wilson)
        interval; `agreement`: for every two sheets and each question how many rows both answered (`n`), the share
        answered the same, Cohen's kappa (None where both always say the same one word), and the rows that differ.

    Raises:
        DataError: If two sheets have no answered row in common.
    """
    shares = {
        name: {
            question: {task: _share(answers) for task, answers in _by_task(sheet, question) if answers}
            for question in QUESTIONS
        }
        for name, sheet in sheets.items()
    }
    pairs = {
        f"{first} and {second}": {q: _agreement(sheets[first], sheets[second], q) for q in QUESTIONS}
        for first, second in combinations(sheets, 2)
    }
    for names, found in pairs.items():
        if not any(row["n"] for row in found.values()):
            raise DataError(f"{names} have no answered row in common: give sheets about the same rows.")
    return {"shares": shares, "agreement": pairs}


def _by_task(sheet: Mapping[str, Mapping[str, Any]], question: str) -> Iterator[tuple[str, list[bool]]]:
    answered = [row for row in sheet.values() if row[question] is not None]
    yield "all", [row[question] for row in answered]
    for task in sorted({row["task_name"] for row in answered}):
        yield task, [row[question] for row in answered if row["task_name"] == task]


def _share(answers: Sequence[bool]) -> dict[str, Any]:
    return {
        "yes": sum(answers) / len(answers),
        "n": len(answers),
        "intervals": {"yes": wilson_interval(sum(answers), len(answers))},
    }


def _agreement(
    first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]], question: str
) -> dict[str, Any]:
    both = [name for name in first if name in second and None not in (first[name][question], second[name][question])]
    differ = [name for name in both if first[name][question] != second[name][question]]
    if not both:
        return {"n": 0, "same": None, "kappa": None, "differ": []}
    same = 1 - len(differ) / len(both)
    yes = [sum(sheet[name][question] for name in both) / len(both) for sheet in (first, second)]
    by_chance = yes[0] * yes[1] + (1 - yes[0]) * (1 - yes[1])
    kappa = (same - by_chance) / (1 - by_chance) if by_chance < 1 else None
    return {"n": len(both), "same": same, "kappa": kappa, "differ": differ}

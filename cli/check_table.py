"""`llink check-table`: can the figures of a published or computed retrieval table come from one ranking?"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from ..configuration_llink import LlinkConfigError
from ..data.errors import DataError
from ..evaluation.consistency import impossibilities, possible_ranges
from ..evaluation.report import table
from .parsing import parse_arguments

_CHECKED = ("mrr", "mean_rank", "median_rank")


@dataclass
class CheckTableArguments:
    """Can these R@k, MRR and mean rank come from one ranking? Exit code 1 if a row's cannot."""

    table: str = field(
        metadata={
            "help": "CSV file with the columns name, r@1, r@5, … and any of mrr, mean_rank, median_rank, n; or JSON "
            "file with such rows in a list or by name, at any depth: a record of `llink eval retrieval` will do. "
            "Figures stand for what rounds to them as written: 0.430 for 0.4295 to 0.4305."
        }
    )


OPTIONS = (CheckTableArguments,)
POSITIONALS = ("table",)
EXAMPLE = "llink check-table table.csv"


def run(argv: Sequence[str]) -> int:
    """Prints what each row's R@k leave possible, and what in it is impossible; `llink check-table FILE` will do."""
    (args,) = parse_arguments("check-table", argv, OPTIONS, positionals=POSITIONALS)
    found = list(read_rows(args.table))
    if not found:
        raise LlinkConfigError(f"{args.table} holds no row with r@k.")
    rows = dict(found)
    if len(rows) < len(found):
        repeated = sorted({name for name, _ in found if [other for other, _ in found].count(name) > 1})
        raise LlinkConfigError(f"{args.table} holds several rows named {', '.join(repeated)}: name each by itself.")
    verdicts = {name: _named(name, impossibilities, row) for name, row in rows.items()}
    header = ["row", *(column for name in _CHECKED for column in (name, "possible")), "verdict"]
    print(table(header, [[name, *_cells(rows[name], found), _word(found)] for name, found in verdicts.items()]))
    for name, found in verdicts.items():
        for sentence in found.values():
            print(f"{name}: {sentence}")
    return int(any(verdicts.values()))


def read_rows(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a CSV or JSON file by name, numbers as they are written.

    Raises:
        LlinkConfigError: If the file is missing or neither.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
        if path.lower().endswith(".csv"):
            content: Any = list(csv.DictReader(text.splitlines(), strict=True))
            if wrong := [number for number, row in enumerate(content, 2) if None in row or None in row.values()]:
                raise LlinkConfigError(f"{path}, line {wrong[0]} has not as many cells as the header.")
        else:
            content = json.loads(text, parse_float=Decimal)
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise LlinkConfigError(f"{path} cannot be read as CSV (*.csv) or JSON: {error}") from error
    return _found(content, "")


def _found(content: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with an r@k, named by its `name` or by where it stands."""
    if isinstance(content, list):
        content = {str(number): row for number, row in enumerate(content, 1)}
    if not isinstance(content, Mapping):
        return
    if any(isinstance(key, str) and key.startswith("r@") for key in content):
        yield content.get("name") or name or "1", dict(content)
        return
    for key, value in content.items():
        yield from _found(value, f"{name}.{key}" if name else key)


def _named(name: str, function: Any, row: Mapping[str, Any]) -> Any:
    try:
        return function(row)
    except DataError as error:
        raise DataError(f"Row {name}: {error}") from error


def _cells(row: Mapping[str, Any], found: Mapping[str, str]) -> Iterator[str]:
    computable = not any(name.startswith("r@") for name in found)
    ranges: dict[str, Any] = dict(possible_ranges(row)) if computable else {}
    ranges["mean_rank"] = ranges.get("mean_rank_given_mrr", ranges.get("mean_rank"))
    for name in _CHECKED:
        yield "" if row.get(name) is None else str(row[name])
        yield "none" if ranges.get(name) is None else "–".join(f"{end:.4g}" for end in ranges[name])


def _word(found: Mapping[str, str]) -> str:
    return "impossible: " + ", ".join(found) if found else "possible"

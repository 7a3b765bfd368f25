"""Writes the tables of `docs/evidence.md` from the results beside this file, so that no number there is typed by hand.

    python benchmarks/evidence/tables.py

A table stands between `<!-- RESULT: … -->` and `<!-- end -->`, where RESULT is a file in `results/` without its ending.
For a study the question follows; for a retrieval record the direction; for translation or numeric records the columns.
Records of one kind are joined by `+`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from llink.evaluation.plot_retrieval import DIRECTION_TITLES, ROW_TITLES, direction_table
from llink.evaluation.report import table

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "evidence.md"
BLOCK = re.compile(r"(<!-- (\S+): (.*?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def read(name: str) -> dict[str, Any]:
    """A record."""
    return json.loads((HERE / "results" / f"{name}.json").read_text("utf-8"))


def question(results: dict[str, Any], name: str) -> str:
    """A study's question: a row a variant."""
    variants = results[name]
    columns = [column for column in next(iter(variants.values())) if column != "seeds"]
    return table([name, *columns], [[label, *map(found.get, columns)] for label, found in variants.items()])


def retrieval(records: dict[str, dict[str, Any]], direction: str) -> str:
    """Retrieval records: a row a system, of the first record that names it."""
    found: dict[str, Any] = {}
    for results in records.values():
        found = results[direction] | found
    ordered = {name: found[name] for name in sorted(found, key=list(ROW_TITLES).index)}
    return direction_table(DIRECTION_TITLES[direction], ordered)


def usage(records: dict[str, dict[str, Any]]) -> str:
    """Usage records: a row each."""
    columns = ("loss", "zeroed_gap", "shuffled_gap", "gaussian_gap", "slots_help", "n")
    return table(["", *columns], [[name, *(found[column] for column in columns)] for name, found in records.items()])


def systems(records: dict[str, dict[str, Any]], columns: tuple[str, ...]) -> str:
    """Records about systems: a row each, the first record that names it."""
    found: dict[str, Any] = {}
    for results in records.values():
        for name, metrics in results.get("systems", results).items():
            if isinstance(metrics, dict):
                found.setdefault(name, metrics)
    return table(["", *columns], [[ROW_TITLES.get(name, name), *map(row.get, columns)] for name, row in found.items()])


def block(match: re.Match) -> str:
    """One table, anew."""
    start, name, what, _, end = match.groups()
    made_by = {one: read(one) for one in name.split("+")}
    (kind,) = {record["kind"] for record in made_by.values()}
    records = {one: record["results"] for one, record in made_by.items()}
    if kind == "ablation":
        made = question(records[name], what)
    elif kind == "retrieval":
        made = retrieval(records, what)
    elif kind == "usage":
        made = usage(records)
    else:
        made = systems(records, tuple(what.split()))
    return f"{start}{made}\n{end}"


def filled(text: str) -> str:
    """The document with all tables as the results have them."""
    return BLOCK.sub(block, text)


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text("utf-8")), "utf-8")

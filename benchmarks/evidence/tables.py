"""Writes the tables of `docs/evidence.md` and of the pages in `docs/evidence/` from the results beside this file.

So no number there is typed by hand.

    python benchmarks/evidence/tables.py

A table stands between `<!-- RESULT: … -->` and `<!-- end -->`, where RESULT is a file in `results/` without its ending.
What follows is, for a study, the question; for a retrieval record the direction, with a row after it that row alone
of each record; for translation or numeric records the columns, or `samples` and how many. Records are joined
by `+`.
"""

from __future__ import annotations

import collections
import html
import itertools
import json
import re
from pathlib import Path
from typing import Any

from llink.evaluation.plot_ablation import ablation_table
from llink.evaluation.plot_content import agreement_table, systems_table
from llink.evaluation.plot_judge import judge_table
from llink.evaluation.plot_retrieval import DIRECTION_TITLES, ROW_TITLES, direction_table
from llink.evaluation.report import table, with_interval

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
PAGES = [
    DOCS / "evidence.md",
    *sorted((DOCS / "evidence").glob("*.md")),
    *sorted((DOCS.parent / "checkpoints").glob("*/README.md")),
]
BLOCK = re.compile(r"(<!-- (\S+): (.*?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def read(name: str) -> dict[str, Any]:
    """A record."""
    return json.loads((HERE / "results" / f"{name}.json").read_text("utf-8"))


def retrieval(records: dict[str, dict[str, Any]], direction: str) -> str:
    """Retrieval records: a row a system, of the first record that names it."""
    found: dict[str, Any] = {}
    for results in records.values():
        found = results[direction] | found
    ordered = {name: found[name] for name in sorted(found, key=list(ROW_TITLES).index)}
    return direction_table(DIRECTION_TITLES[direction], ordered)


def one_row(records: dict[str, dict[str, Any]], direction: str, name: str) -> str:
    """One row of several retrieval records."""
    columns = ("r@1", "r@10", "mrr")
    found = {record: results[direction][name] for record, results in records.items()}
    cells = [[record, *(with_interval(row, column) for column in columns), row["n"]] for record, row in found.items()]
    return table([f"{DIRECTION_TITLES[direction]}, {ROW_TITLES[name]}", *columns, "n"], cells)


def usage(records: dict[str, dict[str, Any]]) -> str:
    """Usage records: a row each."""
    columns = ("loss", "zeroed_gap", "shuffled_gap", "gaussian_gap", "slots_help")
    cells = [[name, *(with_interval(row, column) for column in columns), row["n"]] for name, row in records.items()]
    return table(["", *columns, "n"], cells)


def tokens(records: dict[str, dict[str, Any]]) -> str:
    """Prompts of raw text and of slots: a row a language."""
    costs = {name: cost for results in records.values() for name, cost in results["costs"].items()}
    rows = [
        [
            name,
            cost["raw"]["tokens"],
            cost["slots"]["tokens"],
            cost["ratio"]["tokens"],
            cost["ratio"]["flops"],
            cost["n"],
        ]
        for name, cost in costs.items()
    ]
    return table(["prompt tokens", "raw text", "slots", "ratio", "ratio of prefill FLOPs", "n"], rows)


def steps(records: dict[str, dict[str, Any]]) -> str:
    """Held-out losses of trainings: a row a run, a column a number of steps."""
    runs = {name: losses for results in records.values() for name, losses in results.items()}
    columns = sorted({int(step) for losses in runs.values() for step in losses})
    rows = [[ROW_TITLES.get(n, n), *(losses.get(str(c), "") for c in columns)] for n, losses in runs.items()]
    return table(["loss after steps", *map(str, columns)], rows)


def reading(records: dict[str, dict[str, Any]]) -> str:
    """Ways to make slots that are read: a row each, gaps also of the languages never seen."""
    rows = {name: row for results in records.values() for name, row in results.items()}
    columns = ("loss", "shuffled_gap", "zeroed_gap", "shuffled_gap_my", "shuffled_gap_am", "chrf")
    cells = [[name, *("" if row[c] is None else row[c] for c in columns)] for name, row in rows.items()]
    titles = ["loss", "shuffled gap", "zeroed gap", "shuffled, Burmese", "shuffled, Amharic", "chrF++"]
    return table(["", *titles], cells)


def languages(records: dict[str, dict[str, Any]], measure: str) -> str:
    """Runs of the study that have a measure: a row each, a column a test set; † marks a language never seen."""
    runs = {name: run for results in records.values() for name, run in results.items()}
    runs = {name: run for name, run in runs.items() if any(measure in found for found in run["sets"].values())}
    columns = sorted({name for run in runs.values() for name in run["sets"]})
    cells = []
    for name, run in runs.items():
        row = [name, ", ".join(run["languages"])]
        for column in columns:
            unseen = " †" if column.rpartition("-")[2] not in run["languages"] else ""
            found = run["sets"].get(column, {})
            row.append(f"{with_interval(found, measure)}{unseen}" if measure in found else "")
        cells.append(row)
    return table(["run", "trained on", *columns], cells)


def dictionary(records: dict[str, dict[str, Any]]) -> str:
    """Dictionaries by the tokens that share a slot: how many of the references' words some slot names first."""
    rows = {share: row for results in records.values() for share, row in results.items()}
    columns = sorted({name for row in rows.values() for name in row["recall"]})
    cells = [[share, *(row["recall"].get(c, "") for c in columns), row["steps"]] for share, row in rows.items()]
    return table(["tokens a slot", *columns, "steps"], cells)


def content(records: dict[str, dict[str, Any]], what: str) -> str:
    """What `llink eval content` found: `systems`, a row each, or how far every two measures agree."""
    (found,) = records.values()
    return systems_table(found["systems"], ROW_TITLES) if what == "systems" else agreement_table(found["agreement"])


def judge(records: dict[str, dict[str, Any]]) -> str:
    """Judges' records: a row a comparison."""
    return judge_table(
        {
            f"{name}: {pair}": {"all": found["all"]}
            for name, results in records.items()
            for pair, found in results.items()
            if pair != "judge"
        }
    )


def samples(records: dict[str, dict[str, Any]], count: int) -> str:
    """The first samples as they come, of records of the same rows, the first that has a system: a paragraph each."""
    shown = []
    rows = zip(*(results["samples"] for results in records.values()), strict=True)
    for number, row in enumerate(itertools.islice(rows, count), 1):
        sample = dict(collections.ChainMap(*row))
        lines = [f"{ROW_TITLES.get(name, name)}: {' '.join(text.split())}" for name, text in sample.items()]
        shown.append(f"{number}. " + "<br>\n   ".join(html.escape(line, quote=False) for line in lines))
    return "\n".join(shown)


def systems(records: dict[str, dict[str, Any]], columns: tuple[str, ...]) -> str:
    """Records about systems: a row each, the first record that names it; `without_names` first: of numbers alone."""
    found: dict[str, Any] = {}
    part = columns[0] if columns[0] == "without_names" else "systems"
    columns = tuple(column for column in columns if column != part)
    for results in records.values():
        for name, metrics in results.get(part, results).items():
            if isinstance(metrics, dict):
                found.setdefault(name, metrics)
    cells = [
        [with_interval(row, c) if isinstance(row[c], float) else row[c] for c in columns] for row in found.values()
    ]
    names = [ROW_TITLES.get(name, name) for name in found]
    return table(["", *columns], [[name, *row] for name, row in zip(names, cells, strict=True)])


#: Tables that show all of their records.
WHOLE = {"usage": usage, "tokens": tokens, "judge": judge, "dictionary": dictionary, "steps": steps, "reading": reading}


def block(match: re.Match) -> str:
    """One table, anew."""
    start, name, what, _, end = match.groups()
    made_by = {one: read(one) for one in name.split("+")}
    (kind,) = {record["kind"] for record in made_by.values()}
    records = {one: record["results"] for one, record in made_by.items()}
    if kind == "ablation":
        made = ablation_table(what, records[name][what])
    elif kind == "retrieval":
        made = one_row(records, *what.split()) if " " in what else retrieval(records, what)
    elif kind in WHOLE:
        made = WHOLE[kind](records)
    elif kind == "languages":
        made = languages(records, what)
    elif kind == "content":
        made = content(records, what)
    elif what.startswith("samples "):
        made = samples(records, int(what.split()[1]))
    else:
        made = systems(records, tuple(what.split()))
    return f"{start}{made}\n{end}"


def filled(text: str) -> str:
    """A page with all its tables as the results have them."""
    return BLOCK.sub(block, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8")), "utf-8")

"""Evaluation records in a card: a table each, and the results that the Hub lists (`model-index`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from huggingface_hub import EvalResult

from ..evaluation.page import TITLES
from ..evaluation.report import TITLES as SYSTEMS
from ..evaluation.report import table

#: Kind of record → where in its results the tables of a card stand: one path a table; () is the results themselves, and
#: `*` every comparison of two systems.
TABLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "retrieval": (("foreign_to_english",), ("english_to_foreign",)),
    "translation": ((),),
    "usage": ((), ("tasks",)),
    "numeric": (("systems",),),
    "judge": (("*",),),
    "tokens": (("costs",),),
}
#: Kind → task of the Hub, and its results: path in the record, metric, name (the comparison's own when empty). Of those
#: with the same name the first that exists counts.
RESULTS: dict[str, tuple[str, tuple[tuple[tuple[str, ...], str, str], ...]]] = {
    "retrieval": (
        "sentence-similarity",
        tuple(
            (("foreign_to_english", system, key), key, f"{title}, foreign to English")
            for key, title in (("r@1", "R@1"), ("r@5", "R@5"), ("r@10", "R@10"), ("mrr", "MRR"))
            for system in ("stage_a", "full")
        ),
    ),
    "translation": ("translation", ((("llink", "chrf"), "chrf", "chrF++"), (("llink", "bleu"), "bleu", "BLEU"))),
    "numeric": (
        "text-generation",
        (
            (("systems", "llink", "exact"), "exact_match", "Numbers, dates and names kept exactly"),
            (("systems", "llink", "f1"), "f1", "Numbers, dates and names, F1"),
        ),
    ),
    "judge": ("text-generation", ((("*", "all", "preference"), "preference", ""),)),
    "usage": (
        "text-generation",
        (
            (("zeroed_gap",), "usage_gap", "Usage gap, zeroed slots (nats a token)"),
            (("shuffled_gap",), "shuffled_usage_gap", "Usage gap, another example's slots (nats a token)"),
        ),
    ),
}


def evaluation_sections(records: Mapping[str, Mapping[str, Any]], escape: Callable[[Any], str]) -> list[dict[str, str]]:
    """`title`, `tables` and `provenance` of each record that a card shows, as Markdown.

    Args:
        records: By kind, as [`read_records`] returns them.
        escape: Applied to every text that comes from a record.
    """
    sections = []
    for kind, record in records.items():
        paths = [path for wanted in TABLES.get(kind, ()) for path in _paths(record["results"], wanted)]
        tables = [text for path in paths if (text := _table(_at(record["results"], path), path, escape))]
        if tables:
            sections.append(
                {
                    "title": TITLES.get(kind, kind),
                    "tables": "\n\n".join(tables),
                    "provenance": _provenance(record, escape),
                }
            )
    return sections


def evaluation_results(records: Mapping[str, Mapping[str, Any]]) -> list[EvalResult]:
    """The headline figures, for the card's `model-index`; what was not measured, or is no number, is left out."""
    results = []
    for kind, record in records.items():
        task, wanted = RESULTS.get(kind, ("", ()))
        named: dict[str, tuple[str, float]] = {}
        for pattern, metric, title in wanted:
            for path in _paths(record["results"], pattern):
                value = _at(record["results"], path)
                if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                    named.setdefault(title or path[0], (metric, round(float(value), 4)))
        name = dataset_name(record)
        results += [
            EvalResult(
                task_type=task,
                dataset_type=name,  # results on the same type would be listed under one name
                dataset_name=name,
                metric_type=metric,
                metric_name=title,
                metric_value=value,
            )
            for title, (metric, value) in named.items()
        ]
    return results


def dataset_name(record: Mapping[str, Any]) -> str:
    """What was measured on: the names of its files, without their folders."""
    arguments = record.get("arguments", {})
    for key in ("pairs", "instructions", "outputs", "texts"):
        if value := arguments.get(key):
            files = [value] if isinstance(value, str) else value
            return ", ".join(PurePath(str(file).rpartition("=")[2]).name for file in files)
    return f"llink {record['kind']} suite" + (f" ({arguments['language']})" if arguments.get("language") else "")


def _paths(results: Mapping[str, Any], path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The path itself, or one for every comparison that its `*` stands for."""
    if path[:1] != ("*",):
        return [path]
    return [(name, *path[1:]) for name in results if " vs. " in name]


def _at(results: Any, path: Sequence[str]) -> Any:
    for key in path:
        results = results.get(key) if isinstance(results, Mapping) else None
    return results


def _table(found: Any, path: Sequence[str], escape: Callable[[Any], str]) -> str:
    """A mapping's numbers as a table, or its mappings of numbers, one a row."""
    if not isinstance(found, Mapping):
        return ""
    rows = {name: _numbers(item) for name, item in found.items() if isinstance(item, Mapping) and _numbers(item)}
    title = " ".join(path).replace("_", " ")
    if rows:
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        cells = [
            [escape(SYSTEMS.get(name, name)), *(_cell(row.get(column)) for column in columns)]
            for name, row in rows.items()
        ]
        return table([escape(title), *map(escape, columns)], cells)
    plain = [(escape(name), _cell(value)) for name, value in _numbers(found).items()]
    return table([title or "measure", "value"], plain) if plain else ""


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    return {k: v for k, v in found.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}


def _cell(value: float | None) -> Any:
    return "" if value is None else value


def _provenance(record: Mapping[str, Any], escape: Callable[[Any], str]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    created = str(record.get("created", "")).partition("T")[0]
    return f"On {escape(dataset_name(record))}, {escape(created)}, with {escape(versions)}."

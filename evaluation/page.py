"""One page of everything that was measured: the records of one or more runs, as HTML, Markdown and JSON.

Every record is shown by the same rule, so that a new evaluation needs no code here: numbers stand in tables, one row a
system or case; deeper mappings get a heading; lists of examples are shortened; pictures beside a record follow it.
"""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.errors import DataError
from .report import table, write_json, write_text

#: Order and titles of the sections; other kinds follow by name.
TITLES = {
    "retrieval": "Retrieval",
    "translation": "Translation",
    "usage": "Does the decoder read the slots?",
    "numeric": "Exact numbers, units, dates and names",
    "content": "Do the answers say what the text says?",
    "judge": "Pairwise judgement",
    "tokens": "Tokens and cost",
    "representations": "Representations",
    "outputs": "Answers",
    "encoders": "Encoders before training",
    "ablation": "Ablations",
}
#: In a headline's place: the one entry of a mapping that has no other.
ONLY = object()
#: Where the headline figures of a run stand, if it has them.
HEADLINES: dict[str, tuple[Any, ...]] = {
    "R@1, Stage A": ("retrieval", "foreign_to_english", "stage_a", "r@1"),
    "R@1, full": ("retrieval", "foreign_to_english", "full", "r@1"),
    "usage gap, zeroed": ("usage", "zeroed_gap"),
    "usage gap, shuffled": ("usage", "shuffled_gap"),
    "chrF++, base": ("translation", "base", "chrf"),
    "chrF++, llink": ("translation", "llink", "chrf"),
    "exact F1, base": ("numeric", "systems", "base", "f1"),
    "exact F1, llink": ("numeric", "systems", "llink", "f1"),
    "preferred to base": ("judge", "llink vs. base", "all", "preference"),
    "preferred to finetune": ("judge", "llink vs. finetune", "all", "preference"),
    "prompt tokens, raw over slots": ("tokens", "costs", ONLY, "ratio", "tokens"),
}
SHOWN_EXAMPLES = 10


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the page's."""

    text: str
    level: int


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Table:
    """A header and rows of plain values."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Picture:
    """A PNG file."""

    path: Path


Block = Heading | Text | Table | Picture


def read_records(folder: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """The records of a run's folder by kind, in the page's order; each also knows its pictures (`plots`).

    Raises:
        DataError: If the folder does not exist, holds no record, or holds a damaged one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Give folders that `llink eval … --output-dir` wrote.")
    records = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DataError(f"{path} is not JSON: {error}. Run its evaluation again, or take the file away.") from error
        if isinstance(record, dict) and {"kind", "results"} <= record.keys():
            records[record["kind"]] = record | {"plots": sorted(folder.glob(f"{record['kind']}*.png"))}
    if not records:
        raise DataError(f"{folder} holds no record. Give folders that `llink eval … --output-dir` wrote.")
    order = list(TITLES)
    return dict(sorted(records.items(), key=lambda item: (item[0] not in order, (order + [item[0]]).index(item[0]))))


def write_page(
    runs: Mapping[str, Mapping[str, Mapping[str, Any]]], folder: str | os.PathLike, title: str = "llink"
) -> None:
    """Writes `index.html` (self-contained), `report.md` (its plots as files in `plots/`) and `report.json`.

    Args:
        runs: Records by kind, by run, as [`read_records`] returns them.
        folder: Made when it does not exist.
        title: Of the page.
    """
    folder = Path(folder)
    blocks = list(page_blocks(runs, title))
    plots = {}
    for number, picture in enumerate(block for block in blocks if isinstance(block, Picture)):
        target = folder / "plots" / f"{number:02d}-{picture.path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture.path.read_bytes())
        plots[picture.path] = target.relative_to(folder)
    write_text(folder / "report.md", to_markdown(blocks, plots))
    write_text(folder / "index.html", to_html(blocks, title))
    content = {
        run: {kind: {k: v for k, v in record.items() if k != "plots"} for kind, record in records.items()}
        for run, records in runs.items()
    }
    write_json(folder / "report.json", {"title": title, "headlines": headlines(runs), "runs": content})


def headlines(runs: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """The headline figures that each run has."""
    found: dict[str, dict[str, float]] = {}
    for run, records in runs.items():
        for name, (kind, *keys) in HEADLINES.items():
            value: Any = records.get(kind, {}).get("results")
            for key in keys:
                value = _entry(value, key) if isinstance(value, Mapping) else None
            if isinstance(value, (int, float)):
                found.setdefault(run, {})[name] = value
    return found


def _entry(mapping: Mapping[str, Any], key: Any) -> Any:
    if key is ONLY:
        return next(iter(mapping.values())) if len(mapping) == 1 else None
    return mapping.get(key)


def page_blocks(runs: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str) -> Iterator[Block]:
    """The page from top to bottom: headlines, then each run's records."""
    yield Heading(title, 1)
    figures = headlines(runs)
    if figures:
        names = [name for name in HEADLINES if any(name in values for values in figures.values())]
        rows = [[run, *(values.get(name, "") for name in names)] for run, values in figures.items()]
        yield Table(["run", *names], rows)
    for run, records in runs.items():
        if len(runs) > 1:
            yield Heading(run, 2)
        for kind, record in records.items():
            level = 2 + (len(runs) > 1)
            yield Heading(TITLES.get(kind, kind.capitalize()), level)
            yield from value_blocks(record["results"], level + 1)
            yield from (Picture(path) for path in record.get("plots", ()))
            yield Text(_provenance(record))


def value_blocks(value: Any, level: int) -> Iterator[Block]:
    """A mapping's plain values as one table, its mappings of plain values as another, the rest under headings."""
    if isinstance(value, list):
        yield from _list_blocks(value)
        return
    value = _with_intervals(value)
    plain = {name: item for name, item in value.items() if _is_plain(item)}
    if plain:
        yield Table(["measure", "value"], list(plain.items()))
    records = {name: flat for name, item in value.items() if (flat := _flat(item))}
    if records:
        columns = list(dict.fromkeys(name for flat in records.values() for name in flat))
        yield Table(["", *columns], [[name, *(flat.get(c, "") for c in columns)] for name, flat in records.items()])
    for name, item in value.items():
        if name not in plain and name not in records and item:
            yield Heading(str(name).replace("_", " "), level)
            yield from value_blocks(item, min(level + 1, 6))


def _list_blocks(items: list[Any]) -> Iterator[Block]:
    shown = items[:SHOWN_EXAMPLES]
    if all(isinstance(item, Mapping) for item in shown):
        columns = list(dict.fromkeys(name for item in shown for name in item))
        yield Table(columns, [[_short(item.get(column, "")) for column in columns] for item in shown])
    else:
        yield Table(["#", "value"], [[index, _short(item)] for index, item in enumerate(shown)])
    if len(items) > len(shown):
        yield Text(f"{len(items) - len(shown)} more are in the record.")


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _flat(value: Any) -> dict[str, Any]:
    """A mapping of plain values, with their intervals; empty if it is anything else."""
    flat = _with_intervals(value) if isinstance(value, Mapping) else {}
    return flat if all(map(_is_plain, flat.values())) else {}


def _with_intervals(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with its intervals [low, high] drawn into the cells of their values; others are left as they are."""
    intervals = value.get("intervals")
    if not isinstance(intervals, Mapping):
        return dict(value)
    drawn = {
        name: f"{value[name]:.3f} ({ends[0]:.3f} to {ends[1]:.3f})"
        for name, ends in intervals.items()
        if isinstance(value.get(name), (int, float))
    }
    left = {name: ends for name, ends in intervals.items() if name not in drawn}
    joined = {name: drawn.get(name, item) for name, item in value.items() if name != "intervals"}
    return {**joined, "intervals": left} if left else joined


def _short(value: Any) -> Any:
    if isinstance(value, (int, float)):
        return value
    return value if isinstance(value, str) else json.dumps(_rounded(value), ensure_ascii=False)


def _rounded(value: Any) -> Any:
    """Any JSON value with its numbers as tables show them."""
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def _provenance(record: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    given = {name: value for name, value in record.get("arguments", {}).items() if value not in (None, [], "")}
    arguments = ", ".join(f"{name}={value}" for name, value in given.items())
    return f"Measured {record.get('created', 'at an unknown time')} with {versions}; {arguments}"


def to_markdown(blocks: Sequence[Block], plots: Mapping[Path, Path]) -> str:
    """Blocks → Markdown; `plots` says where each picture lies."""
    parts = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {block.text}")
        elif isinstance(block, Text):
            parts.append(block.text)
        elif isinstance(block, Table):
            rows = [[_markdown_cell(value) for value in row] for row in block.rows]
            parts.append(table(block.header, rows))
        else:
            parts.append(f"![{block.path.stem}]({plots[block.path].as_posix()})")
    return "\n\n".join(parts) + "\n"


def _markdown_cell(value: Any) -> Any:
    return value.replace("|", "\\|").replace("\n", "<br>") if isinstance(value, str) else value


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1d2430; }
h1, h2 { border-bottom: 1px solid #d5dae1; padding-bottom: .2em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e3e7ec; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
img { max-width: 100%; }
p.note { color: #5a6577; font-size: .85rem; overflow-wrap: anywhere; }
"""


def to_html(blocks: Sequence[Block], title: str) -> str:
    """Blocks → one HTML file that needs no other."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
    if isinstance(block, Text):
        return f'<p class="note">{html.escape(block.text)}</p>'
    if isinstance(block, Picture):
        data = base64.b64encode(block.path.read_bytes()).decode()
        return f'<p><img alt="{html.escape(block.path.stem)}" src="data:image/png;base64,{data}"></p>'
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in block.header)
    rows = "\n".join("<tr>" + "".join(map(_html_cell, row)) + "</tr>" for row in block.rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'


def _html_cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        text = html.escape("" if value is None else str(value)).replace("\n", "<br>")
        return f"<td>{text}</td>"
    return f'<td class="number">{value:.3f}</td>' if isinstance(value, float) else f'<td class="number">{value}</td>'

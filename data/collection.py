"""The passages of a collection: from files of lines and tables, or from Python, each with an id and a document."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..modeling_llink.errors import ForeignTextError
from ..modeling_llink.passages import check_passage
from .errors import DataError
from .streams import LONGEST, check_text, open_stream, read_lines

#: What a row may have.
FIELDS = ("id", "document", "text")
_TABLES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
_NOT_READ = (".parquet", ".json", ".tmx", ".xlsx", ".docx", ".pdf", ".html")
_COMPRESSED = {".gz", ".xz", ".zst", ".bz2"}


@dataclass(frozen=True)
class CollectedPassage:
    """A passage of a collection.

    Attributes:
        id: Its own in the collection.
        document: Where it is from; any number of passages may be from one.
        text: Foreign, of any length up to a million characters.
        digest: What tells its text from any other.
    """

    id: str
    document: str
    text: str
    digest: str


def collect(rows: Iterable[Any]) -> list[CollectedPassage]:
    """Texts, or rows with `text` and perhaps `id` and `document`, as passages; all are checked before any is used.

    A row without an id has one made of its document and text. Without ids, a text that comes twice in one document is
    one passage.

    Raises:
        DataError: If there are none, one cannot be read, has unknown columns, or its id is another's.
    """
    passages: dict[str, CollectedPassage] = {}
    named: dict[str, int] = {}
    for number, row in enumerate(rows):
        passage, has_id = _passage(row, number)
        if has_id and (passage.id in named or passage.id in passages):
            first = f"row {named[passage.id]}" if passage.id in named else "another row"
            raise DataError(f"Row {number} has the id {passage.id!r} of {first}: give each passage an id of its own.")
        if has_id:
            named[passage.id] = number
        passages.setdefault(passage.id, passage)
    if not passages:
        raise DataError("There are no passages: give at least one text.")
    return list(passages.values())


def _passage(row: Any, number: int) -> tuple[CollectedPassage, bool]:
    """A checked row, and whether it came with an id."""
    fields = row if isinstance(row, Mapping) else {"text": row}
    unknown = sorted(str(name) for name in fields if name not in FIELDS)
    if unknown or "text" not in fields:
        what = f"unknown columns {', '.join(unknown)}" if unknown else "no column 'text'"
        raise DataError(f"Row {number} has {what}: a passage has text, and may have id and document.")
    try:
        text = str(check_passage(fields["text"], number))
    except ForeignTextError as error:
        raise DataError(str(error)) from error
    if len(text) > LONGEST:
        raise DataError(
            f"Row {number} has {len(text)} characters, and a passage {LONGEST} at most: give it as several, such as "
            "its chapters, with one document."
        )
    document, own = str(fields.get("document") or ""), fields.get("id")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    made = hashlib.sha256(f"{document}\0{digest}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    has_id = own is not None and str(own) != ""
    return CollectedPassage(str(own) if has_id else made, document, text, digest), has_id


def read_collection(files: Sequence[str | Path]) -> Iterator[dict[str, str]]:
    """Rows of files, plain or compressed: of text, a line each; of JSONL, CSV and TSV, by their columns.

    A row without a document is of its file.

    Raises:
        DataError: If a file is missing, damaged, no such file, or lacks a column `text`.
    """
    for path in map(Path, files):
        suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
        suffix = suffixes[-1] if suffixes else ""
        if suffix in _NOT_READ:
            raise DataError(f"{path} is none of .txt (a line a passage), .jsonl, .csv and .tsv: convert it to one.")
        check_text(path, lambda _: None)
        rows = _lines(path) if suffix not in _TABLES else _table(path, _TABLES[suffix])
        for row in rows:
            yield row | {"document": row.get("document") or path.name}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return ({"text": line} for line in read_lines(path, lambda _: None) if line.strip())


def _table(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The rows of a table, whose columns are looked at first."""
    for number, row in enumerate(_rows(path, kind), 2 - (kind == "jsonl")):
        names = [name for name in row if isinstance(name, str)] if isinstance(row, dict) else []
        unknown = [name for name in names if name not in FIELDS]
        if not isinstance(row, dict) or "text" not in row or unknown or None in row:
            has = f"the columns {', '.join(names)}" if names else f"{str(row)[:60]!r}"
            raise DataError(
                f"{path}, line {number} has {has}{' and more' if names and None in row else ''}: a row has text, and "
                "may have id and document, and nothing else. Rename its columns, or leave them out."
            )
        yield row


def _rows(path: Path, kind: str) -> Iterator[Any]:
    if kind == "jsonl":
        for number, line in enumerate(read_lines(path, lambda _: None), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number} is not JSON: {error}.") from error
        return
    dialect: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == "tsv" else {}
    with open_stream(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        try:
            yield from csv.DictReader(text, **dialect)
        except csv.Error as error:
            raise DataError(f"{path} cannot be read as {kind}: {error}.") from error

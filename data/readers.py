"""Parallel text in the formats that it is published in, as streams of pairs.

TMX and line-aligned files are read here; tables (TSV, CSV, JSONL, Parquet) and Hub datasets through `datasets`, as
streams too. Every input is read twice: [`check_input`] goes over its bytes, quickly, so that a file which is truncated,
not UTF-8 or of unequal length is refused before any work is done on it; [`read_input`] then yields the pairs.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features, IterableDataset, Value, load_dataset
from datasets.exceptions import DatasetsError
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from .errors import DataError
from .pairs import target_column
from .scripts import primary_language
from .streams import check_text, open_stream, read_lines
from .target import ENGLISH
from .tmx import check_tmx, read_tmx

Watch = Callable[[bytes], object]

#: File name endings of the formats; two files with other endings are line-aligned (Moses).
SUFFIXES = {
    ".tmx": "tmx",
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
FORMATS = ("tmx", "moses", "tsv", "csv", "jsonl", "parquet")
_COMPRESSED = {".gz", ".xz", ".zst", ".bz2"}
_ROWS = 1000
_DELIMITERS = ",;\t|"
#: The columns of a TSV without names.
_NUMBERED = ("1", "2")
_FAILURES = (ValueError, OSError, csv.Error, DatasetsError, pa.ArrowException, HfHubHTTPError, OfflineModeIsEnabled)


@dataclass(frozen=True)
class Input:
    """One thing to read pairs from.

    Args:
        name: How ids and messages call it.
        format: One of `FORMATS`, or `hub`.
        paths: Its file; two for `moses`, the target side first; none for a dataset of the Hub.
        dataset: Name or local folder, configuration, split and revision for `load_dataset`.
        delimiter: What separates a CSV's columns; found by itself when not given.
    """

    name: str
    format: str
    paths: tuple[Path, ...] = ()
    dataset: tuple[str, str | None, str, str | None] | None = None
    delimiter: str | None = None

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(path.stat().st_size for path in self.paths)


def plan_inputs(files: Sequence[str], file_format: str | None = None) -> list[Input]:
    """Decides what each file is, by its name.

    Args:
        files: Paths; line-aligned files come in pairs, the target side (English) first.
        file_format: One of `FORMATS` for all files, whatever they are called.

    Raises:
        DataError: If a file does not exist, a line-aligned file lacks its partner, or two inputs have one name.
    """
    if missing := [file for file in files if not Path(file).is_file()]:
        raise DataError(f"No such file: {', '.join(missing)}.")
    inputs, aligned = [], []
    for path in map(Path, files):
        suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
        kind = file_format or SUFFIXES.get(suffixes[-1] if suffixes else "", "moses")
        if kind != "moses":
            inputs.append(Input(path.name, kind, (path,)))
            continue
        aligned.append(path)
        if len(aligned) == 2:
            inputs.append(Input(path.name, kind, tuple(aligned)))
            aligned = []
    if aligned and not file_format and _first_line_has_tab(aligned[0]):  # what Excel calls Unicode text
        inputs.append(Input(aligned[0].name, "tsv", (aligned[0],)))
        aligned = []
    if aligned:
        raise DataError(
            f"{aligned[0].name} is taken as one side of line-aligned text and has no partner: give the target "
            f"side (English), then the foreign file, or say --format ({', '.join(FORMATS)})."
        )
    names = [item.name for item in inputs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"Several inputs are called {', '.join(repeated)}, so their rows' ids would repeat: rename.")
    return inputs


def _first_line_has_tab(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix.lower() not in _COMPRESSED and b"\t" in file.readline(1 << 16)


def check_input(
    source: Input, language: str, columns: Sequence[str] | None, watch: Watch, target: str = ENGLISH
) -> dict[str, Any]:
    """Finds what is wrong with an input before any work is done on it.

    Args:
        source: What to read.
        language: Tag of the foreign side.
        columns: Names of the target and the foreign column of a table; see [`find_columns`].
        watch: Called with every piece of a file.
        target: Tag of the target side.

    Returns:
        What tells the input from any other: names, sizes and SHA-256 of its files, or the dataset's commit.

    Raises:
        DataError: If it is missing, damaged, not UTF-8, empty, has no such columns, or sides of unequal length.
    """
    if source.format == "hub":
        next(_tables(source, (target, language), columns))
        return {"name": source.name, "format": "hub", **_hub_facts(source)}
    files, lines = [], []
    for path in source.paths:
        digest = hashlib.sha256()

        def both(data: bytes, digest: Any = digest) -> None:
            digest.update(data)
            watch(data)

        if source.format == "tmx":
            check_tmx(path, both)
        elif source.format == "parquet":
            _read_raw(path, both)
        else:
            lines.append(check_text(path, both))
        files.append({"name": path.name, "bytes": path.stat().st_size, "sha256": digest.hexdigest()})
    if source.format == "moses" and lines[0] != lines[1]:
        raise DataError(
            f"The files are not line-aligned: {source.paths[0]} has {lines[0]} lines, {source.paths[1]} has "
            f"{lines[1]}. Give two files whose n-th lines translate each other."
        )
    if source.format in ("tsv", "csv", "jsonl", "parquet"):
        for _ in _tables(source, (target, language), columns):
            pass
    return {"name": source.name, "format": source.format, "files": files}


def pin(source: Input, facts: Mapping[str, Any]) -> Input:
    """The same input at the commit that [`check_input`] saw, if it is a dataset of the Hub."""
    if source.dataset is None or "revision" not in facts:
        return source
    return replace(source, dataset=(*source.dataset[:3], facts["revision"]))


def read_input(
    source: Input, language: str, columns: Sequence[str] | None, watch: Watch, target: str = ENGLISH
) -> Iterator[tuple[str, str]]:
    """The pairs of an input that [`check_input`] has let through, in its order; a missing side is "".

    Raises:
        DataError: If it changed since, or is wrong in a way that only a full reading shows.
    """
    if source.format == "tmx":
        return read_tmx(source.paths[0], target, language, watch)
    if source.format == "moses":
        return _aligned_lines(source, watch)
    return _table_rows(source, (target, language), columns)


def _aligned_lines(source: Input, watch: Watch) -> Iterator[tuple[str, str]]:
    for pair in zip_longest(*(read_lines(path, watch) for path in source.paths)):
        if None in pair:
            raise DataError(f"{' or '.join(map(str, source.paths))} changed while it was read.")
        yield pair


def find_columns(
    schema: pa.Schema, columns: Sequence[str] | None, language: str, name: str, target: str = ENGLISH
) -> tuple[str, str]:
    """The target and the foreign column of a table; `translation.km` is the field `km` of the column `translation`.

    Args:
        schema: The table's.
        columns: The two names, or None to look for `english` (or `target`) and `foreign`, for a translation column with
            both languages, or for columns that are called as the languages.
        language: Tag of the foreign side.
        name: How messages call the table.
        target: Tag of the target side.

    Raises:
        DataError: If they are not there, there twice, or hold no text.
    """
    types = {field.name: field.type for field in schema}
    for column, kind in list(types.items()):
        if pa.types.is_struct(kind):
            types.update({f"{column}.{field.name}": field.type for field in kind})
    choices: list[Any] = [tuple(columns)] if columns else _usual_columns(target, language)
    if columns is None and "foreign" in types:
        target_column(types, name)
    found = next((pair for pair in choices if all(column in types for column in pair)), None)
    if found is None:
        wanted = " or ".join(" and ".join(map(repr, pair)) for pair in choices)
        raise DataError(f"{name} has no columns {wanted}; it has {', '.join(types)}. Name two of them with --columns.")
    for column in found:
        kind = types[column]
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
            raise DataError(f"{name}: the column {column!r} holds {kind}, not text. Name two others with --columns.")
    return found


def _usual_columns(*languages: str) -> list[tuple[str, str]]:
    """Of the target language and the foreign one."""
    own, foreign = map(primary_language, languages)
    named = [("english", "foreign"), ("target", "foreign")]
    return [*named, (f"translation.{own}", f"translation.{foreign}"), (own, foreign), _NUMBERED]


def _table_rows(source: Input, languages: tuple[str, str], columns: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    for table, pair in _tables(source, languages, columns):
        sides = ([text or "" for text in _column(table, column)] for column in pair)
        yield from zip(*sides, strict=True)


def _tables(
    source: Input, languages: tuple[str, str], columns: Sequence[str] | None
) -> Iterator[tuple[pa.Table, tuple[str, str]]]:
    """The rows in pieces, with the names of their two columns."""
    target, language = languages
    try:
        pair = None
        for table in _open_table(source, languages, columns).with_format("arrow").iter(_ROWS):
            pair = pair or find_columns(table.schema, columns, language, source.name, target)
            yield table, pair
        if pair is None:
            raise DataError(f"{source.name} has no rows.")
    except DataError:
        raise
    except _FAILURES as error:
        raise DataError(f"{source.name} cannot be read as {source.format}: {error}".rstrip()) from error


def _column(table: pa.Table, path: str) -> list[str | None]:
    if path in table.column_names:
        return table.column(path).to_pylist()
    column, _, key = path.partition(".")
    return pc.struct_field(table.column(column), key).to_pylist()


def _open_table(source: Input, languages: tuple[str, str], columns: Sequence[str] | None) -> IterableDataset:
    if source.dataset is not None:
        name, config, split, revision = source.dataset
        return load_dataset(name, config, split=split, revision=revision, streaming=True)
    path = source.paths[0]
    options: dict[str, Any] = {}
    builder = {"tsv": "csv", "jsonl": "json"}.get(source.format, source.format)
    if builder == "csv":
        options = _csv_options(source, [tuple(columns)] if columns else _usual_columns(*languages))
    return load_dataset(builder, data_files=str(path), split="train", streaming=True, **options)


def sniffed_dialect(source: Input, choices: Sequence[tuple[str, ...]] = ()) -> dict[str, Any]:
    """What separates a table's columns, as `csv.reader` takes it; the names in `choices` speak for a delimiter."""
    if source.format == "tsv":
        return {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    tried = {one: _first_rows(source.paths[0], delimiter=one) for one in source.delimiter or _DELIMITERS}
    return {"delimiter": max(tried, key=lambda one: _likeliness(tried[one], choices))}


def _csv_options(source: Input, choices: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Every column is text; no text means "missing"; in a TSV no character quotes, and names are optional."""
    path, file_format = source.paths[0], source.format
    dialect = sniffed_dialect(source, choices)
    names, *row = _first_rows(path, **dialect) or [[]]
    names = [name or f"Unnamed: {place}" for place, name in enumerate(names)]  # as pandas calls an index without a name
    if file_format == "csv" and len(names) < 2:
        raise DataError(f"{path}: its first line, {names}, is one column. Say what separates columns with --delimiter.")
    if row and len(row[0]) > len(names):  # datasets would silently take the first of them for a row's name
        raise DataError(f"{path}: the first row has {len(names)} columns, the second {len(row[0])}.")
    options: dict[str, Any] = {"keep_default_na": False, "na_filter": False, **dialect}
    if file_format == "tsv":
        if _ends_lines_alone(path):  # a carriage return within a line is then a part of its text
            options["lineterminator"] = "\n"
        if not any(set(pair) <= set(names) for pair in choices if pair != _NUMBERED):
            options["names"] = names = [str(number) for number in range(1, len(names) + 1)]
    return {**options, "features": Features({name: Value("string") for name in names})}


def _ends_lines_alone(path: Path) -> bool:
    """Whether the first line ends with a line feed and no carriage return before it."""
    with open_stream(path) as stream:
        line = stream.readline(1 << 20)
    return line.endswith(b"\n") and not line.endswith(b"\r\n") and b"\r" not in line


def _first_rows(path: Path, **dialect: Any) -> list[list[str]]:
    with open_stream(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", "replace", newline="") as text:
        return list(islice(csv.reader(text, **dialect), 2))


def _likeliness(rows: Sequence[Sequence[str]], choices: Sequence[tuple[str, ...]]) -> tuple[bool, bool, int]:
    """Of a delimiter: whether it finds wanted columns, rows of like length, and how many columns."""
    wanted = any(set(pair) <= set(rows[0] if rows else ()) for pair in choices)
    return wanted, len({len(row) for row in rows}) == 1, len(rows[0]) if rows else 0


def _read_raw(path: Path, watch: Watch) -> None:
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            watch(data)


def _hub_facts(source: Input) -> dict[str, Any]:
    name, config, split, revision = source.dataset
    facts: dict[str, Any] = {"config": config, "split": split}
    if Path(name).is_dir():
        digest = hashlib.sha256()
        for path in sorted(path for path in Path(name).rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(name)}\0".encode())
            _read_raw(path, digest.update)
        return {**facts, "sha256": digest.hexdigest()}
    try:
        return {**facts, "revision": HfApi().dataset_info(name, revision=revision).sha}
    except _FAILURES as error:
        raise DataError(f"The Hub does not tell the commit of {name}: {error}") from error

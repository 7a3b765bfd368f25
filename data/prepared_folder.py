"""The folder that `llink prepare` leaves behind: Parquet, lines, checksums, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import DataError
from .splitting import Split
from .target import TARGET_LANGUAGE, is_english

MANIFEST, CHECKSUMS, CARD = "manifest.json", "SHA256SUMS", "README.md"
#: Written into every manifest; a folder without it is not ours to replace.
KIND = "llink prepare"
#: Of pairs whose target side is English, and of others.
COLUMNS = ("id", "english", "foreign", "language")
OTHER_COLUMNS = ("id", "target", "foreign", "language", TARGET_LANGUAGE)

_SHARD_ROWS = 500_000
_GROUP_ROWS = 20_000


class SplitWriter:
    """Writes one split: Parquet files of at most `_SHARD_ROWS` pairs, and two line-aligned text files.

    Args:
        folder: Of the whole output.
        split: Its name is that of the files.
        pairs: How many will come.
        languages: Tags of the target and of the foreign side.
        line_files: Whether the text files are written.
    """

    def __init__(self, folder: Path, split: Split, pairs: int, languages: tuple[str, str], line_files: bool) -> None:
        self.name, self.pairs, self._columns = split.name, pairs, columns_of(languages[0])
        self._schema = pa.schema([(name, pa.string()) for name in self._columns])
        self._languages = dict(zip((TARGET_LANGUAGE, "language"), languages, strict=True))
        self.characters = {self._columns[1]: 0, "foreign": 0}
        self._shards = max(1, math.ceil(pairs / _SHARD_ROWS))
        self.files = [f"data/{split.name}-{shard:05d}-of-{self._shards:05d}.parquet" for shard in range(self._shards)]
        self._folder, self._stack, self._lines = folder, ExitStack(), {}
        self._waiting: list[pa.Table] = []
        self._written = 0
        self._writer: pq.ParquetWriter | None = None
        (folder / "data").mkdir(exist_ok=True)
        if line_files:
            for column, suffix in zip(self.characters, languages, strict=True):
                self.files.append(f"{split.name}.{suffix}")
                self._lines[column] = self._open_lines(folder / self.files[-1])

    def _open_lines(self, path: Path) -> IO[str]:
        return self._stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))

    def write(self, table: pa.Table) -> None:
        """Adds pairs: columns `id`, `english`, `foreign`."""
        table = table.rename_columns([self._columns[1] if name == "english" else name for name in table.column_names])
        for column in self.characters:
            texts = table.column(column).to_pylist()
            self.characters[column] += sum(map(len, texts))
            if column in self._lines:
                self._lines[column].write("".join(f"{text}\n" for text in texts))
        for name in self._columns[3:]:
            table = table.append_column(name, pa.array([self._languages[name]] * len(table), pa.string()))
        self._waiting.append(table.cast(self._schema))
        if sum(map(len, self._waiting)) >= _GROUP_ROWS:
            self._flush(_GROUP_ROWS)

    def close(self) -> None:
        """Writes what is left and closes the files."""
        self._flush(1)
        if self._writer is not None:
            self._writer.close()
        self._stack.close()

    def _flush(self, least: int) -> None:
        table = pa.concat_tables(self._waiting) if self._waiting else self._schema.empty_table()
        while len(table) >= least:
            room = _SHARD_ROWS - self._written % _SHARD_ROWS
            group = table.slice(0, min(_GROUP_ROWS, room)).combine_chunks()
            table = table.slice(len(group))
            if room == _SHARD_ROWS:
                self._next_shard()
            self._writer.write_table(group)
            self._written += len(group)
        self._waiting = [table]

    def _next_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
        path = self._folder / self.files[self._written // _SHARD_ROWS]
        # Chunks by content: the Hub then stores once what two versions of the data share.
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", use_content_defined_chunking=True)


def columns_of(target_language: str) -> tuple[str, ...]:
    """The columns of pairs: those of English have them alone."""
    return COLUMNS if is_english(target_language) else OTHER_COLUMNS


def write_splits(
    folder: Path,
    splits: Sequence[Split],
    assigned: np.ndarray,
    tables: Iterator[pa.Table],
    languages: tuple[str, str],
    lines: bool,
) -> list[dict[str, Any]]:
    """Writes every split in one pass.

    Args:
        folder: Of the whole output.
        splits: S splits.
        assigned: (N,) number of each pair's split, -1 for none.
        tables: The N pairs, in blocks.
        languages: Tags of the target and of the foreign side.
        lines: Whether line-aligned text files are written too.

    Returns:
        For each split its name, size, share, pairs, mean characters and files.
    """
    counts = [int((assigned == number).sum()) for number in range(len(splits))]
    writers = [SplitWriter(folder, split, pairs, languages, lines) for split, pairs in zip(splits, counts, strict=True)]
    first = 0
    for table in tables:
        mine = assigned[first : first + len(table)]
        first += len(table)
        for number, writer in enumerate(writers):
            rows = np.flatnonzero(mine == number)
            if len(rows):
                writer.write(table.take(pa.array(rows)))
    for writer in writers:
        writer.close()
    return [
        {
            "name": split.name,
            "pairs": writer.pairs,
            "most": split.size,
            "share": split.share,
            "mean_characters": {side: round(total / writer.pairs, 1) for side, total in writer.characters.items()},
            "files": writer.files,
        }
        for split, writer in zip(splits, writers, strict=True)
    ]


def write_checksums(folder: Path) -> None:
    """Writes `SHA256SUMS` over every other file of a folder; `sha256sum -c SHA256SUMS` checks it."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        lines.append(f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n")
    (folder / CHECKSUMS).write_text("".join(lines), "utf-8")


def check_files(folder: Path) -> None:
    """Compares a prepared folder with its checksums.

    Raises:
        DataError: If a file is missing or changed.
    """
    for line in (folder / CHECKSUMS).read_text("utf-8").splitlines():
        digest, name = line.split("  ", 1)
        if not (folder / name).is_file() or _digest(folder / name) != digest:
            raise DataError(f"{folder / name} is missing or changed since it was made: --overwrite it.")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a prepared folder; None where nothing stands.

    Raises:
        DataError: If something else stands there, or other files beside the data.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        ours = isinstance(manifest, dict) and manifest.get("kind") == KIND
        listed = {line.split("  ", 1)[1] for line in (folder / CHECKSUMS).read_text("utf-8").splitlines()}
    except (OSError, ValueError, IndexError):
        ours = False
    if not ours:
        raise DataError(f"{folder} is there and was not made by llink prepare: give another --output_dir.")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if others := sorted(present - listed - {CHECKSUMS}):
        raise DataError(
            f"{folder} also holds {', '.join(others[:5])}, which llink prepare did not write: move them, or give "
            "another --output_dir."
        )
    return manifest


def move_into_place(made: Path, folder: Path) -> None:
    """Puts a finished folder where it belongs, in place of an older one that may stand there."""
    retired = made.with_name(f"{made.name}.old")
    if folder.exists():
        folder.rename(retired)
    try:
        made.rename(folder)
    except OSError:
        if retired.exists():
            retired.rename(folder)
        raise
    shutil.rmtree(retired, ignore_errors=True)

"""A store on disk: Arrow files of rows, which a manifest lists; what the manifest does not list is not there.

A file is written under a name of its own and listed when it is whole, so whatever stops a run leaves a store as it was
after the last file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from filelock import FileLock, Timeout

from .errors import StoreError

MANIFEST, DATA, INDEX, CARD = "store.json", "data", "index.faiss", "README.md"
_KIND, _FORMAT = "llink store", 1


@dataclass
class Manifest:
    """What a store holds.

    Attributes:
        model: Folder or repository of the model that made it; None where it has no name.
        binding: As [`binding_of`] gives it.
        width: d.
        stage: The model's; without Stage B there are no slots.
        shards: Of each file its name, rows and bytes.
    """

    model: str | None
    binding: dict[str, str]
    width: int
    stage: str
    shards: list[dict[str, Any]] = field(default_factory=list)


def schema_of(width: int) -> pa.Schema:
    """The columns of a row, which is a piece of a passage."""
    return pa.schema(
        [
            ("id", pa.string()),
            ("document", pa.string()),
            ("piece", pa.int32()),  # its number in the passage
            ("text", pa.string()),
            ("digest", pa.string()),  # of the whole passage
            ("vector", pa.list_(pa.float16(), width)),
            ("tokens", pa.list_(pa.int32())),  # in reading order: -1 for a slot, or a decoder token that is written out
            ("slots", pa.binary()),  # as `pack_slots` makes them
        ]
    )


class Shards:
    """The files of a store's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs from writing.

        Raises:
            StoreError: If another one is writing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(f"Another run is writing {self.folder}: wait for it, or end it.") from None
        try:
            yield
        finally:
            lock.release()

    def read(self) -> Manifest | None:
        """What the folder holds; None where nothing stands.

        Raises:
            StoreError: If it is no store, of a newer llink, or a file is missing or cut off.
        """
        path = self.folder / MANIFEST
        if not path.is_file():
            entries = self.folder.iterdir() if self.folder.is_dir() else ()
            if others := sorted(entry.name for entry in entries if not entry.name.startswith(".")):
                raise StoreError(f"{self.folder} holds {', '.join(others[:3])} and no {MANIFEST}: give another folder.")
            return None
        try:
            content = json.loads(path.read_text("utf-8"))
            kind, number = content.pop("kind", None), content.pop("format", None)
        except (ValueError, AttributeError) as error:
            raise StoreError(f"{path} is damaged ({error}): copy the store again, or index anew.") from error
        if kind != _KIND or number != _FORMAT:
            raise StoreError(
                f"{path} is of format {number!r}, and this llink reads {_FORMAT}: upgrade llink, or index anew."
            )
        try:
            manifest = Manifest(**content)
            for shard in manifest.shards:
                self._check(shard)
        except (TypeError, KeyError) as error:
            raise StoreError(f"{path} is damaged ({error}): copy the store again, or index anew.") from error
        return manifest

    def _check(self, shard: Mapping[str, Any]) -> None:
        file = self.folder / shard["file"]
        size = file.stat().st_size if file.is_file() else None
        if size != shard["bytes"]:
            found = "missing" if size is None else f"of {size} bytes"
            raise StoreError(
                f"The store {self.folder} is torn: {shard['file']} is {found}, and had {shard['bytes']} bytes. Copy or "
                "download it again, or index anew into an empty folder."
            )

    def rows(self, manifest: Manifest) -> Dataset:
        """All rows, memory-mapped.

        Raises:
            StoreError: If a file cannot be read.
        """
        if not manifest.shards:
            return Dataset(schema_of(manifest.width).empty_table())
        parts = []
        for shard in manifest.shards:
            try:
                parts.append(Dataset.from_file(str(self.folder / shard["file"])))
            except (pa.ArrowException, OSError, ValueError) as error:
                raise StoreError(
                    f"{self.folder / shard['file']} is damaged ({error}): copy the store again."
                ) from error
        return concatenate_datasets(parts)

    def write(self, manifest: Manifest) -> None:
        """Lists what there is, whole or not at all."""
        content = {"kind": _KIND, "format": _FORMAT, **asdict(manifest)}
        part = self.folder / f".{MANIFEST}.part"
        with part.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.folder / MANIFEST)

    def clear(self, manifest: Manifest) -> None:
        """Removes what a run that was stopped has left behind."""
        listed = {shard["file"] for shard in manifest.shards}
        (self.folder / DATA).mkdir(exist_ok=True)
        for path in [*(self.folder / DATA).iterdir(), *self.folder.glob(".*.part")]:
            if path.relative_to(self.folder).as_posix() not in listed:
                path.unlink()

    def add(self, manifest: Manifest, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes rows as a new file, and lists it when it is whole."""
        file = f"{DATA}/rows-{len(manifest.shards):05d}.arrow"
        table = pa.Table.from_pylist(list(rows), schema_of(manifest.width))
        with pa.OSFile(str(self.folder / file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        _sync(self.folder / file)
        size = (self.folder / file).stat().st_size
        manifest.shards.append({"file": file, "rows": len(rows), "bytes": size})
        self.write(manifest)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())

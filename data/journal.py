"""Records on disk as they come, one JSON line each: what was paid for is kept, whenever a run is stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from .errors import DataError
from .one_writer import OneWriter

Record = TypeVar("Record")


class Journal(Generic[Record]):
    """An append-only file of records with a `key`; of two with the same key the later holds.

    It is written within a `with` block, by one process at a time.

    Args:
        path: Need not exist. A last line that a killed run left half-written is not read, and is removed when records
            are added.
        record: Dataclass of a line's members.

    Raises:
        DataError: If another line is no record; names it.
    """

    def __init__(self, path: str | os.PathLike, record: Callable[..., Record]) -> None:
        self.path, self._record = Path(path), record
        self.records: dict[str, Record] = {}
        self._whole = self._lines = 0
        self._lock = OneWriter(self.path)
        self._read()

    def _read(self) -> None:
        content = self.path.read_bytes() if self.path.is_file() else b""
        whole = content.rfind(b"\n") + 1
        for line in content[self._whole : whole].splitlines():
            self._lines += 1
            try:
                record: Any = self._record(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise DataError(f"{self.path}, line {self._lines} is no record ({error}); remove the line.") from error
            self.records[record.key] = record
        self._whole = whole

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing it, and what belongs to it; the `with` block that writes may lie within.

        Raises:
            DataError: If another run is writing it.
        """
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def __enter__(self) -> Journal[Record]:
        self._lock.acquire()
        self._read()  # what that run may have added meanwhile
        self._file = self.path.open("ab", buffering=0)
        self._file.truncate(self._whole)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._lock.release()

    def add(self, record: Record) -> None:
        """Appends a record; it is on disk when this returns, and nothing of it when this fails."""
        content: Any = record
        line = json.dumps(asdict(content)).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())
        except OSError:
            with suppress(OSError):
                self._file.truncate(self._whole)
            raise
        self._whole += len(line)
        self._lines += 1
        self.records[content.key] = record

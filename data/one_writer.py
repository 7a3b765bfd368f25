"""One run at a time writes a folder: the others are told which one does, and since when."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import DataError


class OneWriter:
    """The right to write a file or a folder, held by one process at a time, and given back when that ends or dies.

    While it is held there are two hidden files: a `.lock`, and a `.writer` that says who holds it.

    Args:
        path: What will be written; it need not exist.
        inside: Whether it is a folder in which the two files may lie; else they lie beside it.
    """

    def __init__(self, path: str | os.PathLike, inside: bool = False) -> None:
        self.path = Path(path).absolute()
        name = self.path / ".folder" if inside else self.path.with_name(f".{self.path.name}")
        self._held = 0
        self._lock, self._writer = FileLock(f"{name}.lock", timeout=0), Path(f"{name}.writer")

    def acquire(self) -> None:
        """Takes the right.

        Raises:
            DataError: If another run has it (names its process and since when), or nothing can be written there.
        """
        try:
            self._writer.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            while not Path(self._lock.lock_file).exists():  # its holder has just removed it: others would not see it
                self._lock.release()
                self._lock.acquire()
        except Timeout:
            if not Path(self._lock.lock_file).exists():  # what cannot be made, the lock waits for too
                raise DataError(f"Cannot write {self.path}: no file can be made in {self._writer.parent}.") from None
            raise DataError(
                f"Another run{self._who()} is writing {self.path}: wait for it, end it, or write elsewhere."
            ) from None
        except OSError as error:
            raise DataError(f"Cannot write {self.path}: {error.strerror or error} ({error.filename}).") from error
        self._held += 1
        now = datetime.datetime.now().isoformat(" ", "seconds")
        with suppress(OSError):  # a full disk is the writer's own trouble, and told there
            self._writer.write_text(json.dumps({"process": os.getpid(), "since": now}), "utf-8")

    def release(self) -> None:
        """Gives it back."""
        self._held -= 1
        if not self._held:
            for path in (self._writer, Path(self._lock.lock_file)):
                with suppress(OSError):  # some systems do not remove what is open
                    path.unlink(missing_ok=True)
        self._lock.release()

    def _who(self) -> str:
        try:
            told = json.loads(self._writer.read_text("utf-8"))
            return f" (process {told['process']}, since {told['since']})"
        except (OSError, ValueError, KeyError, TypeError):  # it is just beginning, or just done
            return ""


@contextmanager
def one_writer(path: str | os.PathLike, inside: bool = False) -> Iterator[None]:
    """Keeps other processes from writing a file or a folder while the block runs.

    Args:
        path, inside: As [`OneWriter`] takes them.

    Raises:
        DataError: If another run is writing it; names its process and since when.
    """
    writer = OneWriter(path, inside)
    writer.acquire()
    try:
        yield
    finally:
        writer.release()

"""Vectors of texts on disk, so that what a frozen base makes of a text is computed once. One SQLite file, one spec.

A *spec* says what the vectors depend on besides the text: which base, which layer, which pooling, which template.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .errors import DataError

Compute = Callable[[list[str]], Tensor]

_FORMAT = 1
_BUSY_SECONDS = 60.0
_KEYS_A_QUERY = 500  # below SQLite's oldest limit on the variables of a statement, 999
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, vector BLOB NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;
"""


class FeatureCache:
    """Vectors keyed by spec and text: each unique text is computed once, ever.

    Every chunk is committed by itself, so a killed run goes on where it stopped. Vectors are stored as float32 with a
    checksum: what is read is bit by bit what was computed. Any number of processes may read and write at once.

    Args:
        cache_dir: Folder of the cache files, made when needed; None keeps nothing on disk.
    """

    def __init__(self, cache_dir: str | Path | None) -> None:
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    def path(self, spec: Mapping[str, Any]) -> Path | None:
        """The file that holds the vectors of `spec`; None without a folder."""
        if self.cache_dir is None:
            return None
        return self.cache_dir / f"{hashlib.sha256(_canonical(spec).encode()).hexdigest()[:32]}.sqlite"

    def get(
        self,
        spec: Mapping[str, Any],
        texts: Sequence[str],
        compute: Compute,
        chunk_size: int = 256,
        desc: str | None = None,
    ) -> Tensor:
        """Looks up the vectors of `texts`, computing those that are missing.

        Args:
            spec: JSON-able description of everything but the text that the vectors depend on.
            texts: N texts, repeats allowed.
            compute: Maps n texts to (n, D) vectors; called with at most `chunk_size` texts, longest first (so that a
                padded batch holds texts of one length, and running out of memory shows at once).
            chunk_size: Texts computed between two commits.
            desc: Label of the progress bar over missing texts; no bar when None.

        Returns:
            (N, D) float32 on the CPU.

        Raises:
            DataError: If `texts` is empty, or if a vector is not finite or has the wrong shape (the index of its
                text is named).
            DataError: If the cache file is damaged, stays locked or cannot be written.
        """
        if not texts:
            raise DataError("There are no texts to compute features of.")
        canonical = _canonical(spec)
        first: dict[bytes, int] = {}
        keys = [_key(canonical, text) for text in texts]
        for index, key in enumerate(keys):
            first.setdefault(key, index)
        unique = list(first)
        if self.cache_dir is None:
            vectors = self._compute_in_memory(texts, first, compute, chunk_size, desc)
        else:
            vectors = self._compute_on_disk(canonical, self.path(spec), texts, first, compute, chunk_size, desc)
        if len(unique) == len(texts):
            return torch.from_numpy(vectors)
        rows = {key: row for row, key in enumerate(unique)}
        return torch.from_numpy(vectors)[torch.tensor([rows[key] for key in keys])]

    def _compute_in_memory(
        self, texts: Sequence[str], first: dict[bytes, int], compute: Compute, chunk_size: int, desc: str | None
    ) -> np.ndarray:
        rows = {key: row for row, key in enumerate(first)}
        vectors: Any = None
        for chunk_keys, chunk in _computed(texts, first, list(first), compute, chunk_size, desc):
            if vectors is None:
                vectors = np.empty((len(first), chunk.shape[1]), dtype=np.float32)
            _check_width(chunk.shape[1], vectors.shape[1])
            vectors[[rows[key] for key in chunk_keys]] = chunk
        return vectors

    def _compute_on_disk(
        self,
        canonical: str,
        path: Path,
        texts: Sequence[str],
        first: dict[bytes, int],
        compute: Compute,
        chunk_size: int,
        desc: str | None,
    ) -> np.ndarray:
        with _open(path) as database:
            known = _meta(database, "format", str(_FORMAT)), _meta(database, "spec", canonical)
            if known != (str(_FORMAT), canonical):
                raise DataError(f"{path} holds another spec or format: {known}. Delete it and run again.")
            unique = list(first)
            stored = {key for (key,) in _select(database, "key", unique)}
            missing = [key for key in unique if key not in stored]
            for chunk_keys, chunk in _computed(texts, first, missing, compute, chunk_size, desc):
                _check_width(chunk.shape[1], int(_meta(database, "width", str(chunk.shape[1]))))
                rows = [(key, vector.tobytes()) for key, vector in zip(chunk_keys, chunk, strict=True)]
                # Another process may have stored the same text meanwhile: the first vector stays, for everybody.
                database.executemany(
                    "INSERT OR IGNORE INTO features VALUES (?, ?, ?)",
                    [(key, vector, zlib.crc32(vector)) for key, vector in rows],
                )
                database.commit()
            return _read(database, path, unique)


def _canonical(spec: Mapping[str, Any]) -> str:
    return json.dumps(dict(spec), sort_keys=True, ensure_ascii=False, allow_nan=False)


def _key(canonical_spec: str, text: str) -> bytes:
    if not isinstance(text, str):
        raise DataError(f"A text is a {type(text).__name__} ({text!r}); give strings.")
    return hashlib.sha256(f"{canonical_spec}\0{text}".encode("utf-8", "surrogatepass")).digest()


def _computed(
    texts: Sequence[str],
    first: Mapping[bytes, int],
    missing: Sequence[bytes],
    compute: Compute,
    chunk_size: int,
    desc: str | None,
) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """Computes the texts of the missing keys, chunk by chunk, and checks every vector."""
    order = sorted(missing, key=lambda key: len(texts[first[key]]), reverse=True)
    with tqdm(total=len(order), desc=desc, unit="text", disable=desc is None or not order) as bar:
        for start in range(0, len(order), chunk_size):
            keys = order[start : start + chunk_size]
            indices = [first[key] for key in keys]
            vectors = compute([texts[index] for index in indices])
            yield keys, _checked(vectors, indices, texts)
            bar.update(len(keys))


def _checked(vectors: Tensor, indices: list[int], texts: Sequence[str]) -> np.ndarray:
    if vectors.dim() != 2 or vectors.shape[0] != len(indices) or vectors.shape[1] == 0:
        raise DataError(f"{len(indices)} texts gave features of shape {tuple(vectors.shape)}, not (n, D).")
    vectors = vectors.detach().to("cpu", torch.float32)
    bad = (~torch.isfinite(vectors)).any(dim=1).nonzero().flatten().tolist()
    if bad:
        index = indices[bad[0]]
        raise DataError(
            f"The features of {len(bad)} texts are NaN or infinite, the first that of text {index}: "
            f"{texts[index][:80]!r}. Half precision overflows in some bases: load the base in float32 or bfloat16."
        )
    return np.ascontiguousarray(vectors.numpy())


def _check_width(width: int, expected: int) -> None:
    if width != expected:
        raise DataError(f"Features of width {width} for a spec whose features have width {expected}.")


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens a cache file, turning SQLite's errors into ours with a remedy."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"Cannot make the folder {path.parent}: {error}. Give another feature_cache_dir.") from error
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as database:
            database.executescript(_SCHEMA)
            yield database
    except sqlite3.OperationalError as error:
        raise DataError(
            f"Cannot use the feature cache {path}: {error}. Check that its folder can be written, that the disk has "
            "room and that no stopped process holds it, or give another feature_cache_dir."
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: object) -> DataError:
    return DataError(f"The feature cache {path} is damaged ({reason}). Delete the file: it will be recomputed.")


def _meta(database: sqlite3.Connection, name: str, value: str) -> str:
    """The stored value of `name`; stores `value` if there is none yet."""
    row = database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None:
        database.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
        database.commit()
        return _meta(database, name, value)
    return row[0]


def _select(database: sqlite3.Connection, columns: str, keys: Sequence[bytes]) -> Iterator[tuple]:
    for start in range(0, len(keys), _KEYS_A_QUERY):
        chunk = keys[start : start + _KEYS_A_QUERY]
        marks = ",".join("?" * len(chunk))
        yield from database.execute(f"SELECT {columns} FROM features WHERE key IN ({marks})", chunk)


def _read(database: sqlite3.Connection, path: Path, unique: Sequence[bytes]) -> np.ndarray:
    width = int(_meta(database, "width", "0"))
    rows = {key: row for row, key in enumerate(unique)}
    vectors = np.empty((len(unique), width), dtype=np.float32)
    found = 0
    for key, blob, crc in _select(database, "key, vector, crc", unique):
        if len(blob) != 4 * width or zlib.crc32(blob) != crc:
            raise _damaged(path, "a vector does not match its checksum")
        vectors[rows[key]] = np.frombuffer(blob, dtype="<f4")
        found += 1
    if found != len(unique):
        raise _damaged(path, f"{len(unique) - found} vectors are gone")
    return vectors

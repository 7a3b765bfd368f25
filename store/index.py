"""Which rows are nearest to a vector: exactly in a small store, in a large one by cells and short codes (IVF-PQ).

What the codes find is ranked again by the vectors themselves, which stay on disk: scores are exact cosines always.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from datasets.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from .errors import StoreError

logger = logging.getLogger(__name__)

VECTOR = "vector"
#: The most rows that are searched exactly: 230 MB of vectors at d = 576, and ten milliseconds a search on two cores.
EXACT_ROWS = 100_000
#: Of a large store: the share of cells that a search looks into, rows ranked again for each that is asked for, and
#: the fewest.
_PROBED, _AGAIN, _LEAST = 1 / 16, 50, 1000
_A_CELL = 64  # training vectors
_BATCH = 8192


class VectorIndex:
    """Finds rows of a dataset by the column `vector` (d), whose vectors have length one.

    Args:
        rows: N rows.
        path: Where the index of a large store is kept; it is read, brought up to date or made. Of a small one, and
            with None, it is made in memory.

    Raises:
        StoreError: If faiss is not installed.
    """

    def __init__(self, rows: Dataset, path: Path | None = None) -> None:
        if importlib.util.find_spec("faiss") is None:
            raise StoreError("Searching needs faiss, which is not installed: pip install 'llink[store]'.")
        rows = rows if rows._indices is None else rows.flatten_indices()
        self.rows = rows.with_format("numpy", columns=[VECTOR], dtype=np.float32)
        self.exact = len(rows) <= EXACT_ROWS
        self._index = self._flat() if self.exact else _kept(path, len(rows)) or self._trained()
        if self._index.ntotal < len(rows):
            missing = self.rows.select(range(self._index.ntotal, len(rows)))
            with _no_bars():
                missing.add_faiss_index(VECTOR, custom_index=self._index, batch_size=_BATCH)
            if path is not None and not self.exact:
                part = path.with_name(f".{path.name}.part")
                missing.save_faiss_index(VECTOR, part)
                os.replace(part, path)

    def _flat(self) -> Any:
        import faiss

        return faiss.IndexFlatIP(self.width)

    def _trained(self) -> Any:
        """Cells and codes learned from rows all over the store."""
        import faiss

        cells = _cells(len(self.rows))
        short = next(number for number in range(self.width // 8, 0, -1) if self.width % number == 0)
        # np: without the search for codes that compare as bits, which takes minutes and is not used.
        index = faiss.index_factory(self.width, f"IVF{cells},PQ{short}np", faiss.METRIC_INNER_PRODUCT)
        sample = np.linspace(0, len(self.rows) - 1, min(len(self.rows), cells * _A_CELL)).astype(int)
        index.train(self.vectors(sample))
        index.nprobe = max(1, round(cells * _PROBED))
        return index

    @property
    def width(self) -> int:
        """d."""
        return len(self.rows[0][VECTOR])

    @cached_property
    def _blocks(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Where each block of rows begins, and the vectors on disk (n, d) of each: four times as fast as by rows."""
        blocks = [block for block in self.rows.data.column(VECTOR).chunks if len(block)]
        ends = np.cumsum([0, *map(len, blocks)])
        return ends[:-1], [block.flatten().to_numpy().reshape(len(block), -1) for block in blocks]

    def vectors(self, rows: Any) -> np.ndarray:
        """Some rows' vectors (n, d), float32."""
        starts, blocks = self._blocks
        rows = np.asarray(rows)
        found = np.empty((len(rows), self.width), np.float32)
        for place, (row, block) in enumerate(zip(rows, np.searchsorted(starts, rows, side="right") - 1, strict=True)):
            found[place] = blocks[block][row - starts[block]]
        return found

    def search(self, query: np.ndarray, k: int) -> list[tuple[float, int]]:
        """The k nearest rows of a vector (d,) with their cosines, the nearest first."""
        wanted = k if self.exact else max(_LEAST, _AGAIN * k)
        query = query.astype(np.float32)
        (scores,), (places,) = self._index.search(query[None], min(wanted, len(self.rows)))
        places = places[places >= 0]  # fewer than wanted where its cells hold no more
        scores = scores[: len(places)] if self.exact else self.vectors(places) @ query
        order = np.argsort(-scores, kind="stable")[:k]
        return [(float(scores[place]), int(places[place])) for place in order]


def _cells(rows: int) -> int:
    """About one and a half times the square root of the rows, so that a new number comes when they are four times as
    many.
    """
    return int(2 ** round(math.log2(1.5 * math.sqrt(rows))))


def _kept(path: Path | None, rows: int) -> Any:
    """The index that was kept, if it is whole and still fits so many rows; else it is made anew."""
    import faiss

    if path is None or not path.is_file():
        return None
    try:
        index = faiss.read_index(str(path))
    except RuntimeError:
        logger.warning("%s is damaged and is made again.", path)
        return None
    return index if index.ntotal <= rows and index.nlist == _cells(rows) else None


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without a bar of datasets for what takes a moment."""
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()

"""Percentile intervals by resampling with replacement: how far would another draw of the same size move a figure?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..data.errors import DataError

#: Cells of the counts that are held at once.
_CELLS = 4_000_000


def check_resampling(resamples: int, confidence: float = 0.95) -> None:
    """Refuses settings that no interval can be drawn with.

    Raises:
        DataError: If `resamples` is not positive or `confidence` not inside (0, 1).
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise DataError(f"resamples={resamples} must be positive and confidence={confidence} inside (0, 1).")


def draw_counts(occurrences: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of U distinct items is seen in draws of N, in chunks of bounded memory.

    Args:
        occurrences: (U,) how often each item stands in the sample; they sum to N.
        resamples: R draws.
        seed: Of the draws.

    Yields:
        (r, U) counts, each row summing to N; R rows in all.
    """
    generator = np.random.default_rng(seed)
    n, chunk = int(occurrences.sum()), max(1, _CELLS // max(len(occurrences), 1))
    for start in range(0, resamples, chunk):
        yield generator.multinomial(n, occurrences / n, size=min(chunk, resamples - start))


def resampled_sums(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums over N rows drawn with replacement: (N, …) → (R, …)."""
    flat = values.reshape(len(values), -1)
    sums = [counts @ flat for counts in draw_counts(np.ones(len(values)), resamples, seed)]
    return np.concatenate(sums or [flat[:0]]).reshape(-1, *values.shape[1:])


def percentile_ends(draws: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """(R, …) draws of a figure → (2, …), its low and high end."""
    return np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)

"""Cross-lingual retrieval: does a projected foreign vector find its own English sentence? (paper 6.1)

Pure functions of tensors. Ties count against the model, so that a collapsed space scores worst, not by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from ..arguments_llink import checked
from ..data.errors import DataError
from .bootstrap import check_resampling, draw_counts, percentile_ends

#: The k of recall at k in the paper's table 1.
KS = (1, 5, 10)

#: Two cosines closer than this many units in the last place cannot be told apart, and count as a tie.
_TIE_UNITS = 8
_CANDIDATE_CHUNK = 16_384


@checked
def retrieval_metrics(
    queries: Tensor, candidates: Tensor, ks: Sequence[int] = KS, chunk_size: int = 1024
) -> dict[str, float]:
    """Scores retrieval of candidate i by query i, by cosine, over all candidates (paper 6.1 and table 1).

    Args:
        queries: (N, d) projected foreign vectors p_F.
        candidates: (N, d) teacher vectors h_E; row i is the right answer to query i.
        ks: The k of recall at k.
        chunk_size: Queries scored at once: memory grows with chunk_size × 16,384, not with N².

    Returns:
        `r@k` for every k, `mrr`, `mean_rank`, `median_rank`, and `n`, as plain numbers.

    Raises:
        DataError: If the shapes differ, if a vector is NaN or infinite, if a k is not positive, or if there are
            fewer candidates than the largest k.
    """
    check_ks(ks, len(queries))
    return rank_metrics(retrieval_ranks(queries, candidates, chunk_size), ks)


def retrieval_ranks(queries: Tensor, candidates: Tensor, chunk_size: int = 1024, show_progress: bool = False) -> Tensor:
    """The rank of candidate i for query i: 1 + the number of other candidates whose cosine is at least as high.

    "At least as high" allows for rounding (8 units in the last place): an exact copy of the right candidate is a tie
    however the matrix product was ordered. Beyond its arguments it needs memory for one block of scores and one of
    normalised vectors, whatever N is.

    Args:
        queries: (N, d).
        candidates: (N, d).
        chunk_size: Queries scored at once.
        show_progress: Whether to show a bar over the queries.

    Returns:
        (N,) int64 ranks from 1 to N, on the CPU.

    Raises:
        DataError: If the shapes differ, if there are no rows, if a vector is NaN or infinite, or if `chunk_size`
            is not positive.
    """
    _check_vectors(queries, candidates, chunk_size)
    n = len(queries)
    ranks = torch.ones(n, dtype=torch.int64)  # at once: small results between the blocks would scatter the heap
    for start in tqdm(range(0, n, chunk_size), desc="ranking", disable=not show_progress):
        chunk = _unit(queries[start : start + chunk_size])  # (Q, d)
        # From a matrix product too, so that it has the precision of the scores that it is compared with.
        gold = (chunk @ _unit(candidates[start : start + chunk_size]).T).diagonal().unsqueeze(1)  # (Q, 1)
        floor = gold - _TIE_UNITS * torch.finfo(chunk.dtype).eps
        for left in range(0, n, _CANDIDATE_CHUNK):
            block = _unit(candidates[left : left + _CANDIDATE_CHUNK])  # (C, d)
            hits = chunk @ block.T >= floor  # (Q, C)
            own = torch.arange(start, start + len(chunk), device=chunk.device) - left
            inside = (own >= 0) & (own < len(block))
            hits[inside.nonzero().flatten(), own[inside]] = False  # the right answer does not beat itself
            ranks[start : start + chunk_size] += hits.sum(dim=1).cpu()
    return ranks


def rank_metrics(ranks: Tensor, ks: Sequence[int] = KS) -> dict[str, float]:
    """Metrics of given ranks; see [`retrieval_metrics`].

    Args:
        ranks: (N,) ranks from 1.
        ks: The k of recall at k.

    Raises:
        DataError: If a k is not positive, or if there are fewer ranks than the largest k.
    """
    check_ks(ks, len(ranks))
    exact = ranks.cpu().double()
    return {
        **{f"r@{k}": (ranks <= k).double().mean().item() for k in ks},
        "mrr": exact.reciprocal().mean().item(),
        "mean_rank": exact.mean().item(),
        "median_rank": float(np.median(exact.numpy())),
        "n": len(ranks),
    }


def bootstrap_interval(
    ranks: Tensor,
    ks: Sequence[int] = KS,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the metrics by resampling the ranks with replacement.

    The candidate pool stays as it is: the interval says how far another draw of queries would move the metric, not
    how another pool would.

    Args:
        ranks: (N,) ranks from 1.
        ks: The k of recall at k.
        resamples: Draws of N ranks.
        confidence: Mass between the two ends.
        seed: Of the draws.

    Returns:
        (low, high) of `r@k` for every k, of `mrr`, `mean_rank` and `median_rank`.

    Raises:
        DataError: If a k is out of range.
        DataError: If `resamples` or `confidence` is.
    """
    n = len(ranks)
    check_ks(ks, n)
    check_resampling(resamples, confidence)
    # A draw of N ranks is a draw of how often each of the U values that occur is seen: U is small for a good model.
    values, occurrences = np.unique(ranks.cpu().numpy(), return_counts=True)  # (U,)
    draws = []
    for counts in draw_counts(occurrences, resamples, seed):  # (R, U)
        seen = counts.cumsum(axis=1)
        middle = [values[(seen <= place).sum(axis=1)] for place in ((n - 1) // 2, n // 2)]
        columns = [*(counts @ (values <= k) / n for k in ks), counts @ (1 / values) / n, counts @ values / n]
        draws.append(np.stack([*columns, (middle[0] + middle[1]) / 2], axis=1))
    ends = percentile_ends(np.concatenate(draws), confidence)  # (2, columns)
    names = [*(f"r@{k}" for k in ks), "mrr", "mean_rank", "median_rank"]
    return {name: (float(low), float(high)) for name, low, high in zip(names, *ends, strict=True)}


def rank_report(ranks: Tensor, ks: Sequence[int] = KS) -> dict[str, Any]:
    """[`rank_metrics`] with their 95 % [`bootstrap_interval`] as lists under `intervals`: one row of a record.

    Raises:
        DataError: As [`rank_metrics`].
    """
    intervals = {name: list(ends) for name, ends in bootstrap_interval(ranks, ks).items()}
    return {**rank_metrics(ranks, ks), "intervals": intervals}


def _unit(vectors: Tensor) -> Tensor:
    wide = vectors if vectors.dtype == torch.float64 else vectors.float()
    return F.normalize(wide, dim=1)


def check_ks(ks: Sequence[int], n: int) -> None:
    """Raises [`DataError`] unless every k is positive and no larger than n, the number of candidates."""
    if not ks or min(ks) < 1:
        raise DataError(f"ks={tuple(ks)} must hold positive numbers.")
    if n < max(ks):
        raise DataError(
            f"Recall at {max(ks)} over {n} pairs is always 1: evaluate on at least {max(ks)} pairs, or lower ks."
        )


def _check_vectors(queries: Tensor, candidates: Tensor, chunk_size: int) -> None:
    if queries.dim() != 2 or queries.shape != candidates.shape or not len(queries):
        raise DataError(
            f"Queries of shape {tuple(queries.shape)} and candidates of shape {tuple(candidates.shape)}: "
            "both must be (N, d) with the same N > 0 and d."
        )
    if chunk_size < 1:
        raise DataError(f"chunk_size={chunk_size} must be positive.")
    for name, vectors in (("queries", queries), ("candidates", candidates)):
        finite = torch.cat([torch.isfinite(part).all(dim=1) for part in vectors.split(_CANDIDATE_CHUNK)])
        bad = (~finite).nonzero().flatten()
        if len(bad):
            raise DataError(f"{len(bad)} {name} are NaN or infinite, the first is row {bad[0].item()}.")

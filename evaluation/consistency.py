"""Can the figures of one row of a retrieval table come from one ranking? (paper table 1)

R@k says how many ranks lie in each *bucket*: 1…k₁, k₁+1…k₂, …, beyond the largest k. Inside its bucket a rank is free,
so R@k leaves MRR, mean and median rank a range, and MRR leaves the mean rank a narrower one. A figure outside it is an
error of the table, whatever the system was.

Published figures are rounded: "0.430" stands for everything from 0.4295 to 0.4305. Both ends count as possible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from ..data.errors import DataError

_SLACK = 1e-9  # of floating-point sums
_UNKNOWN_POOL = 1e6
_SLOPES = 2000

Range = tuple[float, float]


def possible_ranges(row: Mapping[str, Any]) -> dict[str, Range]:
    """What the R@k of a row leave possible.

    Args:
        row: `r@k` for one or more k, as shares; optionally `n`, the number of queries and of candidates, and `mrr`. A
            string or Decimal is rounded to the digits that it is written with; a float or int is exact.

    Returns:
        (low, high) of `mrr`, `mean_rank` and `median_rank`: each end is the figure of some ranking with these R@k, or
        a little beyond it where the rounding of neighbouring R@k overlaps. Without `n`, mean and median rank have no
        upper end (`inf`) where R@k leave ranks beyond the largest k. If the row has a possible `mrr`, also
        `mean_rank_given_mrr`.

    Raises:
        DataError: If the row is unusable (see the class), or no ranking has these R@k.
    """
    known = _Known.read(row)
    problems = known.problems()
    if problems:
        raise DataError(" ".join(problems.values()))
    return _ranges(known, row)


def impossibilities(row: Mapping[str, Any]) -> dict[str, str]:
    """Which figures of a row cannot be, and why.

    Args:
        row: As in [`possible_ranges`], with any of `mrr`, `mean_rank`, `median_rank`; other keys are ignored.

    Returns:
        A sentence for each impossible figure, by its name; empty if one ranking can have them all. If R@k themselves
        are impossible, nothing else is looked at. Under `mean_rank` stands also a mean rank that R@k alone would
        allow, but not together with the row's MRR.

    Raises:
        DataError: If the row is unusable; see the class.
    """
    known = _Known.read(row)
    problems = known.problems()
    if problems:
        return problems
    ranges = _ranges(known, row)
    found = {}
    for name in ("mrr", "mean_rank", "median_rank"):
        if row.get(name) in (None, ""):
            continue
        low, high = ranges[name]
        if _outside(_interval(name, row[name]), (low, high)):
            found[name] = f"{name} {row[name]} is impossible: R@k leave {_shown(low)} to {_shown(high)}."
    if not found and "mean_rank_given_mrr" in ranges and row.get("mean_rank") not in (None, ""):
        low, high = ranges["mean_rank_given_mrr"]
        if _outside(_interval("mean_rank", row["mean_rank"]), (low, high)):
            found["mean_rank"] = (
                f"mean_rank {row['mean_rank']} is impossible together with mrr {row['mrr']}: they leave it "
                f"{_shown(low)} to {_shown(high)}."
            )
    return found


@dataclass(frozen=True)
class _Known:
    """R@k of a row: (m,) ks, ascending, and between which two shares the true R@k lies; (m + 1,) ends of the buckets.

    The last bucket holds the ranks beyond the largest k; without n it is open (`inf`) unless it is empty.
    """

    ks: np.ndarray
    low: np.ndarray
    high: np.ndarray
    best: np.ndarray
    worst: np.ndarray
    n: int | None

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> _Known:
        ks = sorted(_k(name) for name in row if name.startswith("r@") and row[name] not in (None, ""))
        if not ks:
            raise DataError(f"The row has no r@k, only {sorted(row)}: nothing follows from the rest.")
        n = _count(row.get("n"))
        shares = np.array([_share(k, row[f"r@{k}"]) for k in ks])  # (m, 2)
        low, high = shares[:, 0].clip(min=0), shares[:, 1].clip(max=1)
        if n is not None:
            slack = _SLACK * n
            low, high = np.ceil(low * n - slack) / n, np.floor(high * n + slack) / n
            low = np.where(np.array(ks) >= n, 1.0, low)  # no rank is beyond n
        low, high = np.maximum.accumulate(low), np.minimum.accumulate(high[::-1])[::-1]
        last = ks[-1] + 1 if low[-1] == 1 else math.inf if n is None else max(n, ks[-1] + 1)
        worst = np.array([*(k if n is None else max(min(k, n), 1) for k in ks), last], dtype=float)
        best = np.minimum([1, *(k + 1 for k in ks)], worst)
        return cls(np.array(ks), low, high, best, worst, n)

    def problems(self) -> dict[str, str]:
        """R@k that no ranking has: no share of n, falling with k, or below 1 at a k that reaches n."""
        pool = "" if self.n is None else f" over {self.n} pairs"
        return {
            f"r@{k}": f"r@{k} is impossible{pool}: with the other R@k it would have to be at least {_shown(low)} and "
            f"at most {_shown(high)}."
            for k, low, high in zip(self.ks.tolist(), self.low, self.high, strict=True)
            if low > high + _SLACK
        }

    def least(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """(W,) the smallest a·MRR + b·(mean rank) of all rankings with these R@k, for each weight of a and b (W,).

        The smallest and largest MRR and mean rank are those of (±1, 0) and (0, ±1); the other weights tell which MRR
        and mean rank go together.
        """
        a, b = a[:, None], b[:, None]
        turn = np.sqrt(np.where(a * b > 0, a, 1) / np.where(a * b > 0, b, 1))  # where a/r + b·r is least, if a, b > 0
        best, worst = np.broadcast_arrays(self.best, self.worst, a)[:2]  # (W, m + 1)
        ranks = np.stack([best, worst, *(np.clip(near, best, worst) for near in (np.floor(turn), np.ceil(turn)))])
        with np.errstate(invalid="ignore"):  # 0 · inf, which is not used
            cost = np.where(b == 0, a / ranks, a / ranks + b * ranks).min(axis=0)  # (W, m + 1), of a rank in the bucket
            share = np.where(cost[:, :-1] > cost[:, 1:], self.low, self.high)  # (W, m)
            mass = np.diff(share, prepend=0, append=1)  # (W, m + 1)
            return np.where(mass == 0, 0, mass * cost).sum(axis=1)

    def median_range(self) -> Range:
        """The median: the mean of the two middle ranks, each in the first bucket that can, or must, reach it."""
        if self.n is None:
            must = [(self.low > 0.5 + _SLACK)] * 2
            can = [(self.high >= 0.5 - _SLACK)] * 2
        else:
            places = [(self.n - 1) // 2 + 1, self.n // 2 + 1]
            must = [self.low * self.n + 0.5 > place for place in places]
            can = [self.high * self.n + 0.5 > place for place in places]
        low, high = (
            [ends[flags.argmax() if flags.any() else -1] for flags in side]
            for ends, side in ((self.best, can), (self.worst, must))
        )
        return float(sum(low) / 2), float(sum(high) / 2)


def _ranges(known: _Known, row: Mapping[str, Any]) -> dict[str, Range]:
    sides = known.least(np.array([1.0, -1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, -1.0])).tolist()
    ranges = {"mrr": (sides[0], -sides[1]), "mean_rank": (sides[2], -sides[3]), "median_rank": known.median_range()}
    if row.get("mrr") not in (None, "") and not _outside(_interval("mrr", row["mrr"]), ranges["mrr"]):
        ranges["mean_rank_given_mrr"] = _mean_rank_given_mrr(known, _interval("mrr", row["mrr"]), ranges["mean_rank"])
    return ranges


def _mean_rank_given_mrr(known: _Known, mrr: Range, alone: Range) -> Range:
    """Every slope s gives a line that no ranking crosses: least ≤ MRR + s·(mean rank) ≤ greatest."""
    pool = known.n or _UNKNOWN_POOL
    slopes = np.geomspace(1 / (4 * pool**2), 1, _SLOPES)  # (W,): 1/r falls by 1/r² a rank
    ones = np.ones_like(slopes)
    low = ((known.least(ones, slopes) - mrr[1] - _SLACK) / slopes).max()
    high = ((-known.least(-ones, -slopes) - mrr[0] + _SLACK) / slopes).min()
    return max(alone[0], float(low)), min(alone[1], float(high))


def _outside(interval: Range, possible: Range) -> bool:
    slack = _SLACK * max(1.0, abs(interval[0]))
    return interval[1] < possible[0] - slack or interval[0] > possible[1] + slack


def _interval(name: str, value: Any) -> Range:
    """What a figure stands for: all that rounds to it if it is written out, itself if it is a float."""
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise DataError(f"{name}={value!r} is not a number.") from None
    if not number.is_finite():
        raise DataError(f"{name}={value!r} is not finite.")
    written = isinstance(value, (str, Decimal))
    half = Decimal(5).scaleb(number.as_tuple().exponent - 1) if written else Decimal(0)
    return float(number - half), float(number + half)


def _share(k: int, value: Any) -> Range:
    interval = _interval(f"r@{k}", value)
    if interval[1] < 0 or interval[0] > 1:
        raise DataError(f"r@{k}={value} is not in [0, 1]: give shares, not per cent.")
    return interval


def _k(name: str) -> int:
    digits = name.removeprefix("r@")
    if not digits.isdecimal() or int(digits) < 1:
        raise DataError(f"{name!r} is not r@1, r@2, ….")
    return int(digits)


def _count(value: Any) -> int | None:
    if value in (None, ""):
        return None
    interval = _interval("n", value)
    count = round(sum(interval) / 2)
    if count < 1 or count != sum(interval) / 2:
        raise DataError(f"n={value!r} is not a positive whole number.")
    return count


def _shown(value: float) -> str:
    return f"{value:.4g}" if value < 1 else f"{value:.2f}"

"""The steps that look at the whole corpus: duplicates, and splits that no sentence ever crosses.

**Where a sentence goes.** The key of a sentence (64 bits of a content hash, `near_duplicates.py`) is a point between 0
and 1; the shares of the splits cut that line into zones. Shares do not depend on the data, so neither do zones.

  (Where none are given and a size is open, they follow from the number of distinct sentences: see [`fit_shares`].)

- `split_by="english"`: a pair goes where its English sentence falls. A foreign sentence that stands beside English
  sentences of different zones would cross; all its pairs are dropped (step `split_conflict`). This is decided on every
  pair that the cleaning lets through, before duplicates go. So a sentence of either language is in one split of a run;
  and in every run on the same and more data it is in that split or in none: its English sentences are still there.
- `split_by="both"`: pairs whose two sides fall into different zones are dropped. No sentence can be in two splits of
  any two runs, whatever their data; of shares p, q, … the share p² + q² + … of the pairs is left.

The size of a split takes the pairs of smallest content hash in its zone.

Memory: one byte a pair for what became of it. Keys stay on disk and are looked at in parts of `PART_ROWS` pairs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors_llink import LlinkConfigError
from .near_duplicates import BANDS, similarity

DUPLICATE_SCOPES = ("either", "pair")
SPLIT_RULES = ("english", "both")
#: Name → what is dropped. In this order, after the cleaning steps.
CORPUS_STEPS = {
    "split_conflict": "its sentences fall to different splits",
    "duplicate": "a side has been seen before (with --duplicates pair: both, together)",
    "near_duplicate": "nearly the same as an earlier pair",
    "split_size": "beyond the size of its split",
}
#: Those without which the splits are still honest.
SKIPPABLE = ("duplicate", "near_duplicate")

#: Pairs whose keys are in memory at a time.
PART_ROWS = 1 << 20
_ENGLISH, _FOREIGN, _BAND = 0, 1, 2
_DEFAULT_SHARE = 0.05
_EXAMPLES = 5
_POINTS = 2.0**64
_MIX = np.uint64(0x9E3779B97F4A7C15)

KeyFunction = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Split:
    """A split: its name, the most pairs it takes (-1: all), and the share of all sentences that falls to it."""

    name: str
    size: int
    share: float


def parse_splits(splits: Sequence[str], shares: Sequence[float] | None = None) -> list[Split]:
    """Reads `name=size` items.

    Args:
        splits: One item a split; a size of -1 takes everything.
        shares: One a split, of a sum of at most 1. By default by the sizes, so that each is reached; where one is
            -1, it gets what is left when every other split has 0.05.

    Raises:
        LlinkConfigError: If an item, a name, a size or a share makes no sense.
    """
    names, sizes = [], []
    for item in splits:
        match = re.fullmatch(r"(\w+)=(-1|[1-9]\d*)", item)
        if match is None:
            raise LlinkConfigError(f"--splits {item!r}: give NAME=PAIRS, such as train=100000, or NAME=-1 for all.")
        names.append(match[1])
        sizes.append(int(match[2]))
    if not splits or len(set(names)) < len(names):
        raise LlinkConfigError(f"--splits {list(splits)}: give one or more splits, each name once.")
    if shares is None:
        shares = _usual_shares(sizes)
    if len(shares) != len(splits) or min(shares) <= 0 or sum(shares) > 1 + 1e-9:
        raise LlinkConfigError(f"--shares {list(shares)}: give {len(splits)} positive shares that sum to at most 1.")
    return [Split(*row) for row in zip(names, sizes, shares, strict=True)]


def _usual_shares(sizes: Sequence[int]) -> list[float]:
    open_ended = sizes.count(-1)
    if open_ended == 0:
        wanted = [_share_of(size, 1) for size in sizes]
        return [share / sum(wanted) for share in wanted]
    if open_ended > 1 or len(sizes) > 1 / _DEFAULT_SHARE:
        raise LlinkConfigError("--splits with more than one size of -1, or of more than 20 splits, need --shares.")
    return [1 - _DEFAULT_SHARE * (len(sizes) - 1) if size == -1 else _DEFAULT_SHARE for size in sizes]


def fit_shares(splits: Sequence[Split], pairs: int, most: float = 1.0) -> list[Split]:
    """Shares by which sized splits are filled from a corpus, and the open one gets the rest.

    Args:
        splits: One of them with a size of -1.
        pairs: Distinct pairs of the corpus.
        most: The largest share of all sized splits together; half where they ask for more than there is.
    """
    wanted = [0.0 if split.size == -1 else _share_of(split.size, pairs) for split in splits]
    total = sum(wanted)
    if total > most or total >= 1:
        wanted = [share * min(most, 0.5) / total for share in wanted]
    rest = 1 - sum(wanted)
    return [replace(split, share=share or rest) for split, share in zip(splits, wanted, strict=True)]


def shares_to_reach(splits: Sequence[Mapping[str, Any]]) -> list[float] | None:
    """Shares with which a run's splits (`pairs`, `most`, `share`) would have reached their sizes; None if none would.

    A size of -1 takes what is left.
    """
    wanted = [_share_of(s["most"], max(1, s["pairs"]) / s["share"]) if s["most"] != -1 else 0.0 for s in splits]
    if sum(wanted) >= 1:
        return None
    rest = 1 - sum(wanted)
    spare = rest / wanted.count(0.0) if 0.0 in wanted else 0.0
    return [math.floor(1000 * (share or spare)) / 1000 for share in wanted]


def _share_of(size: int, pairs: float) -> float:
    """The share of which so many pairs are drawn, but for three standard deviations."""
    return (size + 3 * math.sqrt(size)) / max(pairs, 1)


class Corpus:
    """The keys of all cleaned pairs, in blocks, and what became of each pair.

    Args:
        files: Arrays (2 + BANDS, n) uint64, see `cleaning.block_keys`, or `.npy` files of such, which stay on disk; in
            the order of the pairs.

    Attributes:
        sizes: Pairs of each block.
        fate: (N,) uint8: 0 for a pair that is left, else the number given to [`drop`].
    """

    def __init__(self, files: Sequence[Path | np.ndarray]) -> None:
        self._files = list(files)
        self.sizes = [_keys(file).shape[1] for file in self._files]
        self.fate = np.zeros(sum(self.sizes), np.uint8)
        self.parts = max(1, math.ceil(len(self.fate) / PART_ROWS))

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """The number of each block's first pair, and its keys (2 + BANDS, n), read when they are looked at."""
        first = 0
        for file, size in zip(self._files, self.sizes, strict=True):
            yield first, _keys(file)
            first += size

    def repeated(self, key: KeyFunction) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Finds the pairs that are left and share a key, a part of all keys at a time.

        Args:
            key: Maps a block's keys (2 + BANDS, n) to the (n,) uint64 that may be shared.

        Yields:
            For m pairs, each of which shares its key with another: their numbers (m,), group after group and in order
            within a group; and the place (m,) of the first member of each one's group.
        """
        for part in range(self.parts):
            numbers, keys = [], []
            for first, block in self.blocks():
                values = key(block)
                mine = self.fate[first : first + len(values)] == 0
                if self.parts > 1:
                    mine &= (values >> np.uint64(32)) % np.uint64(self.parts) == part
                numbers.append(np.flatnonzero(mine) + first)
                keys.append(values[mine])
            joined = np.concatenate([np.zeros(0, np.uint64), *keys])
            order = np.argsort(joined, kind="stable")
            same = joined[order][1:] == joined[order][:-1]
            shared = np.zeros(len(joined), bool)
            shared[1:] |= same
            shared[:-1] |= same
            is_first = np.concatenate([[True], ~same])[: len(joined)][shared]
            firsts = np.maximum.accumulate(np.where(is_first, np.arange(len(is_first)), 0))
            yield np.concatenate([np.zeros(0, np.int64), *numbers])[order][shared], firsts

    def distinct(self) -> int:
        """How many different sentences the side that has fewer holds; estimated from a part of a large corpus."""
        share = min(1.0, PART_ROWS / max(len(self.fate), 1))
        below = np.uint64(min(share * _POINTS, _POINTS - 2048))
        keys = [[block[side][block[side] <= below] for _, block in self.blocks()] for side in (_ENGLISH, _FOREIGN)]
        found = [len(np.unique(np.concatenate(side))) if side else 0 for side in keys]
        return round(min(found) / share)

    def gather(self, numbers: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """(len(rows), m) rows of the keys of m pairs, by their numbers."""
        found = np.zeros((len(rows), len(numbers)), np.uint64)
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        for first, block in self.blocks():
            start, end = np.searchsorted(ordered, [first, first + block.shape[1]])
            if start < end:
                found[:, order[start:end]] = block[np.ix_(list(rows), ordered[start:end] - first)]
        return found

    def drop(self, numbers: np.ndarray, step: int) -> None:
        """Notes that a step dropped pairs."""
        self.fate[numbers] = step


def _keys(file: Path | np.ndarray) -> np.ndarray:
    return file if isinstance(file, np.ndarray) else np.load(file, mmap_mode="r")


def drop_split_conflicts(corpus: Corpus, splits: Sequence[Split], rule: str, step: int) -> list[tuple[int, int]]:
    """Drops the pairs that would make a sentence cross from one split to another (see the module's text).

    Returns:
        The first examples: number of a dropped pair, and -1.
    """
    examples: list[tuple[int, int]] = []
    if rule == "both":
        for first, block in corpus.blocks():
            differ = _zones(block[_ENGLISH], splits) != _zones(block[_FOREIGN], splits)
            numbers = np.flatnonzero(differ & (corpus.fate[first : first + len(differ)] == 0)) + first
            corpus.drop(numbers, step)
            examples = _earliest(examples, numbers)
        return examples
    for numbers, firsts in corpus.repeated(lambda block: block[_FOREIGN]):
        zones = _zones(corpus.gather(numbers, [_ENGLISH])[0], splits)
        crossing = np.zeros(len(numbers), bool)
        crossing[firsts[zones != zones[firsts]]] = True
        numbers = numbers[crossing[firsts]]
        corpus.drop(numbers, step)
        examples = _earliest(examples, numbers)
    return examples


def drop_duplicates(corpus: Corpus, scope: str, step: int) -> list[tuple[int, int]]:
    """Drops pairs of which an earlier pair has the same English or the same foreign sentence (or both, for `pair`).

    Returns:
        The first examples: number of a dropped pair, and of the earlier one.
    """
    if scope == "pair":
        return _drop_repeated(corpus, pair_hash, step)
    examples = _drop_repeated(corpus, lambda block: block[_ENGLISH], step)
    return sorted(examples + _drop_repeated(corpus, lambda block: block[_FOREIGN], step))[:_EXAMPLES]


def _drop_repeated(corpus: Corpus, key: KeyFunction, step: int) -> list[tuple[int, int]]:
    examples: list[tuple[int, int]] = []
    for numbers, firsts in corpus.repeated(key):
        repeated = np.flatnonzero(firsts != np.arange(len(firsts)))
        corpus.drop(numbers[repeated], step)
        examples = _earliest(examples, numbers[repeated], numbers[firsts[repeated]])
    return examples


def drop_near_duplicates(corpus: Corpus, least: float, step: int) -> list[tuple[int, int]]:
    """Drops pairs whose signature agrees with an earlier pair's to `least` or more (see `near_duplicates.py`).

    The earlier pair may itself go because of one that is earlier still.

    Returns:
        As [`drop_duplicates`].
    """
    examples: list[tuple[int, int]] = []
    bands = list(range(_BAND, _BAND + BANDS))
    near = np.zeros(len(corpus.fate), bool)
    for band in bands:
        for numbers, firsts in corpus.repeated(lambda block, band=band: block[band]):
            signatures = corpus.gather(numbers, bands).T
            found = similarity(signatures, signatures[firsts]) >= least
            found &= firsts != np.arange(len(firsts))
            later, earlier = numbers[found], numbers[firsts[found]]
            examples = _earliest(examples, later[~near[later]], earlier[~near[later]])
            near[later] = True
    corpus.drop(np.flatnonzero(near), step)
    return examples


def assign_splits(corpus: Corpus, splits: Sequence[Split], step: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Gives every pair that is left its split, and drops what is beyond the sizes (and outside the shares).

    Returns:
        (N,) int8: the number of each pair's split, -1 for those without; examples as [`drop_duplicates`].
    """
    limits = [_limit(corpus, splits, number) for number in range(len(splits))]
    assigned = np.full(len(corpus.fate), -1, np.int8)
    taken = [0] * len(splits)
    examples: list[tuple[int, int]] = []
    for first, block in corpus.blocks():
        zones, hashes = _zones(block[_ENGLISH], splits), pair_hash(block)
        left = corpus.fate[first : first + len(zones)] == 0
        for number, split in enumerate(splits):
            chosen = np.flatnonzero(left & (zones == number) & (hashes <= limits[number])) + first
            if split.size != -1:
                chosen = chosen[: split.size - taken[number]]
            taken[number] += len(chosen)
            assigned[chosen] = number
        beyond = np.flatnonzero(left & (assigned[first : first + len(zones)] < 0)) + first
        corpus.drop(beyond, step)
        examples = _earliest(examples, beyond)
    return assigned, examples


def _limit(corpus: Corpus, splits: Sequence[Split], number: int) -> np.uint64:
    """The largest content hash that a split takes, found with no more than its size in memory."""
    size, kept = splits[number].size, np.zeros(0, np.uint64)
    for first, block in corpus.blocks():
        left = corpus.fate[first : first + block.shape[1]] == 0
        kept = np.concatenate([kept, pair_hash(block)[left & (_zones(block[_ENGLISH], splits) == number)]])
        if size == -1:
            return np.uint64(2**64 - 1)
        if len(kept) > size:
            kept = np.partition(kept, size - 1)[:size]
    return kept.max() if len(kept) else np.uint64(0)


def pair_hash(block: np.ndarray) -> np.ndarray:
    """(n,) uint64 of a block's keys: one hash of both sides, in which the sides are told apart."""
    mixed = np.asarray(block[_ENGLISH]) * _MIX
    mixed ^= mixed >> np.uint64(29)
    return (mixed + np.asarray(block[_FOREIGN])) * _MIX


def _zones(keys: np.ndarray, splits: Sequence[Split]) -> np.ndarray:
    """(n,) the number of the split into whose zone each key falls; len(splits) for none."""
    ends = np.cumsum([split.share for split in splits])
    if abs(ends[-1] - 1) < 1e-9:
        ends[-1] = 2.0
    return np.searchsorted(ends, np.asarray(keys) / _POINTS, side="right")


def _earliest(
    examples: list[tuple[int, int]], numbers: np.ndarray, because: np.ndarray | None = None
) -> list[tuple[int, int]]:
    if because is None:
        because = np.full(len(numbers), -1)
    first = np.argsort(numbers, kind="stable")[:_EXAMPLES]
    new: Iterable[tuple[int, int]] = zip(numbers[first].tolist(), because[first].tolist(), strict=True)
    return sorted([*examples, *new])[:_EXAMPLES]

"""Which pairs are used for which split and task, decided before anything is asked.

A pair belongs to a split by the content of its target side (`splitting.py`), and is used for the tasks that a hash of
the seed, that side and the task draws: with more pairs, or in another order, the same pair has the same place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from ..blocks import BLOCK_ROWS
from ..cleaning import Side, block_keys
from ..pairs import sentences
from ..scripts import word_count
from ..splitting import (
    CORPUS_STEPS,
    Corpus,
    Split,
    assign_splits,
    drop_duplicates,
    drop_near_duplicates,
    drop_split_conflicts,
    pair_hash,
)
from .filters import ALIKE
from .tasks import TASK_TABLE, quotas

#: Name → what is dropped, before and after the cleaning of whole corpora.
PAIR_STEPS = {
    "empty": "a side has no letter and no digit",
    "foreign_length": "the foreign side is too short or too long",
    **{name: text for name, text in CORPUS_STEPS.items() if name != "split_size"},
    "task": "too short for every task of the mix",
}

#: Of MurmurHash3's finaliser, in which every step can be undone.
_MULTIPLIERS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))


@dataclass(frozen=True)
class Job:
    """An example to be made.

    Attributes:
        rank: Place of its pair in the split.
        id, english, foreign: The pair.
        split: Name.
        task: Key of `TASK_TABLE`.
    """

    rank: int
    id: str
    english: str
    foreign: str
    split: str
    task: str


class Planner:
    """Divides pairs among splits and tasks.

    Args:
        splits: With their shares and sizes.
        mix: Task → share.
        foreign_length: Fewest and most foreign characters.
        examples_per_pair: Most tasks of a pair.
        seed: Of the tasks that are drawn.
        target_script: Key of `SCRIPTS`, of the target side, whose words are counted.

    Attributes:
        quotas: Split → task → examples that are wanted, -1 for all.
    """

    def __init__(
        self,
        splits: Sequence[Split],
        mix: Mapping[str, float],
        foreign_length: Sequence[int],
        examples_per_pair: int,
        seed: int,
        target_script: str = "Latn",
    ) -> None:
        self._splits = [Split(split.name, -1, split.share) for split in splits]
        self.quotas = {split.name: quotas(split.size, mix) for split in splits}
        self._mix, self._length = mix, foreign_length
        self._per_pair, self._seed, self._script = examples_per_pair, seed, target_script

    def plan(self, pairs: Dataset) -> tuple[dict[tuple[str, str], list[Job]], list[dict[str, Any]]]:
        """Plans every example that the pairs allow.

        Args:
            pairs: Rows with `id`, `english` (or `target`), `foreign`.

        Returns:
            Jobs of each split and task, in order; and what each step dropped.
        """
        ids, english, foreign = (sentences(pairs, name) for name in ("id", "english", "foreign"))
        jobs: dict[tuple[str, str], list[Job]] = {
            (split.name, task): [] for split in self._splits for task in self._mix
        }
        kept, blocks, steps = self._usable(english, foreign)
        assigned = self._assigned(Corpus(blocks), steps)
        hashes = np.concatenate([pair_hash(block) for block in blocks])
        unused = 0
        for rank, place in enumerate(np.lexsort((np.arange(len(hashes)), hashes)).tolist()):
            if assigned[place] < 0:
                continue
            row, split = kept[place], self._splits[assigned[place]].name
            tasks = self._drawn(english[row], self.quotas[split])
            unused += not tasks
            for task in tasks:
                jobs[split, task].append(Job(rank, ids[row], english[row], foreign[row], split, task))
        _count(steps, "task", int((assigned >= 0).sum()), unused)
        return jobs, steps

    def _usable(
        self, english: Sequence[str], foreign: Sequence[str]
    ) -> tuple[list[int], list[np.ndarray], list[dict[str, Any]]]:
        """The rows whose texts will do, and their keys, in blocks."""
        blocks: list[np.ndarray] = []
        kept, empty, length = [], 0, 0
        low, high = self._length
        for first in range(0, len(english), BLOCK_ROWS):
            own, other = (Side(list(texts[first : first + BLOCK_ROWS])) for texts in (english, foreign))
            filled = (own.folded.lengths > 0) & (other.folded.lengths > 0)
            fits = filled & (other.codes.lengths >= low) & (other.codes.lengths <= high)
            empty, length = empty + int((~filled).sum()), length + int((filled & ~fits).sum())
            kept += (np.flatnonzero(fits) + first).tolist()
            blocks.append(block_keys(own, other, fits))
            blocks[-1][0] = _mixed(blocks[-1][0])
        steps: list[dict[str, Any]] = []
        _count(steps, "empty", len(english), empty)
        _count(steps, "foreign_length", len(english) - empty, length)
        return kept, blocks, steps

    def _assigned(self, corpus: Corpus, steps: list[dict[str, Any]]) -> np.ndarray:
        """(N,) the number of each pair's split; -1 for those that go."""
        for number, (name, drop) in enumerate(
            (
                ("split_conflict", lambda step: drop_split_conflicts(corpus, self._splits, "english", step)),
                ("duplicate", lambda step: drop_duplicates(corpus, "either", step)),
                ("near_duplicate", lambda step: drop_near_duplicates(corpus, ALIKE, step)),
            ),
            1,
        ):
            rows_in = int((corpus.fate == 0).sum())
            drop(number)
            _count(steps, name, rows_in, int((corpus.fate == number).sum()))
        return assign_splits(corpus, self._splits, len(PAIR_STEPS))[0]

    def _drawn(self, english: str, wanted: Mapping[str, int]) -> list[str]:
        """The tasks of a pair: drawn by their shares, without putting back, of those that want it and that it suits."""
        length = word_count(english, self._script)
        draws = []
        for task, share in self._mix.items():
            if wanted[task] and length >= TASK_TABLE[task].least_words:
                digest = hashlib.sha256(f"{self._seed}\0{task}\0{english}".encode("utf-8", "surrogatepass")).digest()
                point = (int.from_bytes(digest[:8]) + 1) / (2**64 + 1)
                draws.append((point ** (1 / share), task))
        return [task for _, task in sorted(draws, reverse=True)[: self._per_pair]]


def _mixed(keys: np.ndarray) -> np.ndarray:
    """Other keys, one to one: those of a split of `llink prepare` all lie in one zone, and must spread over ours."""
    for multiplier in _MULTIPLIERS:
        keys = (keys ^ (keys >> np.uint64(33))) * multiplier
    return keys ^ (keys >> np.uint64(33))


def _count(steps: list[dict[str, Any]], name: str, rows_in: int, dropped: int) -> None:
    steps.append({"name": name, "what": PAIR_STEPS[name], "rows_in": rows_in, "dropped": dropped})

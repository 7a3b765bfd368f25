"""The order of training rows: batches of rows of like length, which are padded least."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices


class GroupedByLength(LengthGroupedSampler):
    """Row numbers in an order in which the rows of an optimiser step are of like length.

    As transformers' own, which goes from long to short over and over; here steps of any length follow one another. The
    first holds the longest row: memory that does not suffice shows at once. The order depends on the seed and the epoch
    alone, so a resumed run goes on in it.

    Args:
        lengths: Of each row, in tokens.
        batch_size: Rows of an optimiser step, so that accumulation sees the rows of the big batch.
        seed: Of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        super().__init__(batch_size, lengths=list(lengths))
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """The order is another one in each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        rows = get_length_grouped_indices(self.lengths, self.batch_size, generator=generator)
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        fixed = len(rows) // self.batch_size  # a short batch stays the last, as samplers' users expect
        order = [0, *(1 + torch.randperm(max(fixed - 1, 0), generator=generator)).tolist()]
        return iter([row for number in [*order, *range(max(fixed, 1), len(batches))] for row in batches[number]])

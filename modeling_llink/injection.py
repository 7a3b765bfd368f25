"""Putting slots where reserved tokens stand: counted first, then put into what the embedding layer gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from .errors import BaseModelError, SlotMismatchError

#: What the embedding layer of this thread's forward pass gives at reserved ids, until it has.
_waiting: ContextVar[list[tuple[Tensor, Tensor]] | None] = ContextVar("waiting_slots", default=None)


@contextmanager
def injected(embedding: nn.Module, positions: Tensor, rows: Tensor) -> Iterator[None]:
    """Runs the block's pass of a decoder with other embeddings at some positions of its `input_ids`.

    They are put where its embedding layer gives its own, so that whatever it does with embeddings, or with ids beside
    them, happens as with text: scaling (Falcon-H1), embeddings for each layer (Gemma 3n and 4).

    Args:
        embedding: The decoder's input embeddings.
        positions: (B, S) true where a row is put.
        rows: (M, d) as many as positions, in their order, or (1, d) for all.

    Raises:
        BaseModelError: If the pass never called the embedding layer with these (B, S) ids.
    """
    hook = embedding.register_forward_hook(_inject)
    waiting = [(positions, rows)]
    token = _waiting.set(waiting)
    try:
        yield
        if waiting:
            raise BaseModelError(
                f"This decoder does not read its prompt through its own {type(embedding).__name__}, so nothing can be "
                "put there. Choose another decoder."
            )
    finally:
        _waiting.reset(token)
        hook.remove()


def _inject(embedding: nn.Module, inputs: tuple, embeds: Tensor) -> Tensor | None:
    waiting = _waiting.get()
    if not waiting or embeds.shape[:2] != waiting[0][0].shape:  # another thread's, or another table's
        return None
    positions, rows = waiting.pop()
    positions = positions.unsqueeze(-1).to(embeds.device)  # (B, S, 1)
    if len(rows) == 1:
        return torch.where(positions, rows.to(embeds), embeds)
    return embeds.masked_scatter(positions, rows.to(embeds))


def check_counts(positions: Tensor, slots: Tensor, mask: Tensor) -> None:
    """Refuses slots that are not as many as their places: count first, then scatter.

    Args:
        positions: (B, S) true where a slot token stands.
        slots: (B, T, K, d) slots of up to T passages a row.
        mask: (B, T, K) true at slots, false where a passage pads its row, or nothing pads a shorter passage.

    Raises:
        SlotMismatchError: If a row's number of slot tokens is not that of its passages' slots.
    """
    if slots.shape[:3] != mask.shape or len(slots) != len(positions):
        raise SlotMismatchError(
            f"Slots of shape {tuple(slots.shape)} do not fit {len(positions)} prompt rows: "
            "give one row of passages for each prompt."
        )
    found = positions.sum(dim=1)  # (B,)
    needed = mask.sum(dim=(1, 2)).to(found)  # (B,)
    if not torch.equal(found, needed):
        row = int((found != needed).nonzero()[0])
        counts = [int(count) for count in mask[row].sum(dim=1) if count]
        raise SlotMismatchError(
            f"Row {row} holds {int(found[row])} slot tokens, but its {len(counts)} passage(s) of "
            f"{' + '.join(map(str, counts))} slots need {int(needed[row])}. Give exactly one passage for each "
            "placeholder, do not cut a prompt inside its slots, and do not use prefill_chunk_size."
        )

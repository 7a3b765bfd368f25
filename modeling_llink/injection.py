"""Putting slots where reserved tokens stand: count first, then scatter."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import SlotMismatchError


def embed_with_zeros(embedding: torch.nn.Module, input_ids: Tensor, vocab_size: int) -> Tensor:
    """Looks up embeddings; reserved ids, which have no row, get the zero vector (paper 4.1: zero-initialised, neutral).

    Args:
        embedding: The decoder's input embedding module.
        input_ids: (B, S) with ids that may lie at or above `vocab_size`.
        vocab_size: The first id that is not in the decoder's vocabulary.

    Returns:
        (B, S, d) embeddings.
    """
    reserved = input_ids >= vocab_size  # (B, S)
    return embedding(input_ids.masked_fill(reserved, 0)).masked_fill(reserved.unsqueeze(-1), 0.0)


def inject_slots(embeds: Tensor, slot_positions: Tensor, slots: Tensor, slot_mask: Tensor) -> Tensor:
    """Overwrites the rows at the slot tokens with the passages' slots, in order (paper 4.2).

    Args:
        embeds: (B, S, d) embeddings of the prompt.
        slot_positions: (B, S) true where a slot token stands.
        slots: (B, T, K, d) slots of up to T passages a row.
        slot_mask: (B, T, K) true at slots, false where a passage pads its row, or nothing pads a shorter passage.

    Returns:
        (B, S, d).

    Raises:
        SlotMismatchError: If a row's number of slot tokens is not that of its passages' slots.
    """
    if slots.shape[:3] != slot_mask.shape or slots.shape[0] != embeds.shape[0]:
        raise SlotMismatchError(
            f"Slots of shape {tuple(slots.shape)} do not fit {embeds.shape[0]} prompt rows: "
            "give one row of passages for each prompt."
        )
    found = slot_positions.sum(dim=1)  # (B,)
    needed = slot_mask.sum(dim=(1, 2)).to(found)  # (B,)
    if not torch.equal(found, needed):
        row = int((found != needed).nonzero()[0])
        counts = [int(count) for count in slot_mask[row].sum(dim=1) if count]
        raise SlotMismatchError(
            f"Row {row} holds {int(found[row])} slot tokens, but its {len(counts)} passage(s) of "
            f"{' + '.join(map(str, counts))} slots need {int(needed[row])}. Give exactly one passage for each "
            "placeholder, do not cut a prompt inside its slots, and do not use prefill_chunk_size."
        )
    real = slots[slot_mask].to(embeds)  # (slots, d), row by row
    return embeds.masked_scatter(slot_positions.unsqueeze(-1), real)

"""One pooling, for training and inference: encoder states to one vector a passage."""

from __future__ import annotations

import torch
from torch import Tensor


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pools the encoder's states over the tokens of each passage (paper 4.1: the masked mean).

    Args:
        states: (N, L, d_e) hidden states of one layer.
        mask: (N, L), 1 where a token stands, 0 at padding.
        pooling: `mean`, `cls` (the first token) or `max`.

    Returns:
        (N, d_e) float32: sums over long texts lose digits in half precision.
    """
    states = states.float()
    if pooling == "cls":
        return states[:, 0]
    keep = mask.bool().unsqueeze(-1)  # (N, L, 1)
    if pooling == "max":
        return states.masked_fill(~keep, torch.finfo(states.dtype).min).amax(dim=1)
    if pooling == "mean":
        return (states * keep).sum(dim=1) / keep.sum(dim=1).clamp(min=1)
    raise ValueError(f"pooling={pooling!r} is not one of mean, cls, max.")


def pool_segments(states: Tensor, mask: Tensor, count: int) -> Tensor:
    """Averages the encoder's states over `count` stretches of each passage, as even as its tokens allow.

    Stretches overlap where a passage has no multiple of `count` tokens (adaptive average pooling), so that none is
    empty.

    Args:
        states: (N, L, d_e) hidden states of one layer.
        mask: (N, L), 1 where a token stands, 0 at padding.
        count: K.

    Returns:
        (N, K, d_e) float32, in reading order.
    """
    keep = mask.bool()  # (N, L)
    lengths = keep.sum(dim=1, keepdim=True)  # (N, 1)
    order = (keep.cumsum(dim=1) - 1).unsqueeze(1)  # (N, 1, L): a token's place among its passage's
    number = torch.arange(count, device=states.device)  # (K,)
    start = (number * lengths // count).unsqueeze(-1)  # (N, K, 1)
    end = (((number + 1) * lengths + count - 1) // count).unsqueeze(-1)  # (N, K, 1), rounded up
    inside = ((order >= start) & (order < end) & keep.unsqueeze(1)).float()  # (N, K, L)
    return inside @ states.float() / inside.sum(dim=-1, keepdim=True).clamp(min=1)  # (N, K, d_e)

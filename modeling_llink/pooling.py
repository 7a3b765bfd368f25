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
